//! AWS Secrets Manager as a secret store, and a delivery hook that refreshes AWS Lambda functions.
//!
//! Invariants: consumers read the version with the label `AWSCURRENT`, whole; a staged version has keyholder's own
//! label, never `AWSPENDING`, which belongs to AWS' own rotation; each version is named by its write and never changed.
//! The official SDK makes and signs the calls; they leave by keyholder's own HTTP client.

mod calls;
mod check;
mod connect;
mod failure;
pub mod lambda;
mod outage;
mod promote;
mod settings;
mod store;
mod transport;

pub use self::{
    connect::Account,
    settings::{AssumedRole, CredentialSource, Settings, Settle},
    store::{AwsStore, VALUE_MAX},
    transport::Transport,
};
/// Where access keys come from, for callers that bring their own.
pub use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
