//! A faithful local Genesys Cloud and NICE CXone to test against: real sockets, real rules, virtual time.
//!
//! Invariants: the crate shares no code with keyholder's platform adapters (an independent witness of what they do);
//! every rule that the platforms do not document is a switch in [`Behaviours`] or [`CxoneBehaviours`], never an
//! assumption; the request journal holds no secret, no token and no `Authorization` value.
//!
//! ```no_run
//! # async fn demo() -> Result<(), kh_sandbox::SandboxError> {
//! let sandbox = kh_sandbox::Sandbox::start(kh_sandbox::SandboxConfig::default()).await?;
//! let client = sandbox.admin();
//! // POST {sandbox.genesys_url}/oauth/token with Basic client.id:client.secret.expose()
//! sandbox.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod clock;
pub mod config;
mod control;
mod cxone;
mod exchange;
pub mod faults;
mod genesys;
mod handle;
mod journal;
mod mint;
mod reply;
mod secret;
mod server;
mod shared;
mod tls;

pub use config::{
    AccessKeyConfig, ApplicationConfig, Behaviours, ClientConfig, CxoneBehaviours, CxoneConfig, CxoneUserConfig,
    EndpointLimit, GenesysConfig, LimitsConfig, ListenConfig, LoginLimitStatus, OrganizationConfig, RateLimitCode,
    RoleConfig, SandboxConfig, TenantConfig, TlsFiles, UserConfig, WrongSecretStatus,
};
pub use faults::{FaultEffect, FaultMatch, FaultRule};
pub use handle::{InitialAccessKey, InitialApplication, InitialClient, Sandbox, SandboxError, SandboxHandle};
pub use journal::{EndpointCounts, JournalEntry};
pub use secret::SandboxSecret;

pub mod error_body;
pub mod operations;
