//! The ports: what services need from the outside world. Adapters on a higher floor implement them; each has a
//! conformance suite.

use std::{future::Future, pin::Pin};

pub mod audit_log;
pub mod delivery;
pub mod inbound;
pub mod observer;
pub mod rotation_journal;
pub mod secret_management;
pub mod secret_source;
pub mod secret_store;
pub mod secret_target;
pub mod security;
pub mod session_store;
pub mod state_store;
pub mod token_endpoint;

pub use audit_log::{AuditError, AuditLog};
pub use delivery::{DeliveryHook, HookError, Notice, Notifier, Promotion, Urgency};
pub use inbound::{KeyDocument, KeySource, OwnToken, RemoteError, RevocationStore, TokenAnswer, TokenAuthority};
pub use observer::Observer;
pub use rotation_journal::{Grade, JournalError, RotationJournal, Sighting, SightingLog};
pub use secret_management::{ManageError, RotatorTokens, SecretManagement, Strategy};
pub use secret_source::{SecretSource, SourceError};
pub use secret_store::{Expected, SecretMetadata, SecretStore, StoreError, StoredSecret, VersionMetadata};
pub use secret_target::{SecretTarget, TargetError};
pub use security::{AuthenticationEvent, SecurityLog};
pub use session_store::{BeginError, Instances, SessionLimits, SessionRecord, SessionStore};
pub use state_store::{AllowRule, ClientRecord, StateError, StateStore, TokenBinding, TokenFormat, TokenRecord};
pub use token_endpoint::{FetchError, Grant, GrantError, IssuedToken, TokenEndpoint};

/// A boxed future, for ports that are used as trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
