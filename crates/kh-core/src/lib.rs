//! What every part of keyholder shares, and nothing that does I/O: secret newtypes, typed ids, who a verified token speaks
//! for, time and entropy as arguments, the audit event, problem codes, trace context, the catalogue of metrics, and the
//! port traits that adapters implement.
//!
//! Invariant: no type of this crate that carries a secret can be printed, cloned by accident, or serialised.

pub mod audit;
pub mod clock;
pub mod credential;
pub mod entropy;
pub mod environment;
pub mod error;
pub mod id;
pub mod identity;
pub mod issued;
pub mod metric;
pub mod platform;
pub mod port;
pub mod revocation;
pub mod rotation;
pub mod scope;
pub mod secret;
pub mod secret_reference;
pub mod session;
pub mod trace;

pub use clock::{Clock, ManualClock, Now, Steadiness, SystemClock, UnixMillis};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use environment::EnvironmentName;
pub use error::{Blame, Code, PROBLEM_TYPE_PREFIX, Problem, ProblemType, Retry};
pub use id::{ClientId, ClientName, CredentialName, PlatformName, SecretName, StoreName};
pub use identity::{ClaimValue, Confirmation, Identity};
pub use platform::PlatformKind;
pub use secret::{Fingerprint, Fingerprinter, Hashed, SecretBytes, SecretString, Sha256, sealing::SealingKey};
pub use secret_reference::SecretReference;
