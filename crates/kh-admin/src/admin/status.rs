//! `/v1/status`: everything that an operator asks a running keyholder, in one document.
//!
//! Invariant: no secret; members are only ever added.

use std::{path::PathBuf, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{Response, StatusCode},
};
use kh_broker::{Applied, CredentialStatus};
use kh_core::{UnixMillis, port::BoxFuture};
use serde::Serialize;

use super::{AdminPorts, json};

/// Who knows how the process is doing.
pub trait StatusSource: Send + Sync {
    /// Everything, as of now.
    fn status(&self) -> BoxFuture<'_, Status>;
}

/// How a keyholder is doing.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its version.
    pub version: &'static str,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started_at: UnixMillis,
    /// How long ago, in seconds.
    pub uptime_seconds: u64,
    /// Whether a stop signal came.
    pub draining: bool,
    /// Calls whose answer is not complete.
    pub in_flight: i64,
    /// The configuration in force.
    pub config: ConfigStatus,
    /// Where it listens.
    pub listeners: Vec<ListenerStatus>,
    /// The gateway's certificate, if it has one.
    pub tls: Option<TlsStatus>,
    /// Its credentials.
    pub credentials: Vec<CredentialStatus>,
    /// What it keeps its state in.
    pub stores: Vec<StoreStatus>,
    /// How many applications may log in.
    pub clients: usize,
    /// How many tokens of its own are valid.
    pub live_tokens: usize,
    /// The limits that hold.
    pub limits: std::collections::BTreeMap<&'static str, String>,
    /// The audit log.
    pub audit: AuditStatus,
}

/// Which configuration is in force.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigStatus {
    /// Its file.
    pub file: Option<PathBuf>,
    /// The file's digest, in hex.
    pub sha256: String,
    /// When it took effect.
    pub loaded_at: UnixMillis,
    /// The last try to read it again, if there was one.
    pub last_reload: Option<ReloadStatus>,
}

/// What came of a reload.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadStatus {
    /// When.
    pub at: UnixMillis,
    /// `signal` or `file`.
    pub trigger: &'static str,
    /// `applied`, `unchanged` or `refused`.
    pub result: &'static str,
    /// What it did to the credentials, if it was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Applied>,
    /// Why it was refused: a problem object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<serde_json::Value>,
}

/// One listener.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerStatus {
    /// `gateway`, `gateway-tls`, `inbound`, `inbound-tls`, `broker` or `admin`.
    pub name: &'static str,
    /// The protected API that is served there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Where, as a URL, or `unix:` and a path.
    pub address: String,
}

/// The gateway's certificate.
#[derive(Clone, Debug, Serialize)]
pub struct TlsStatus {
    /// Digest of the leaf certificate (DER), in hex.
    pub certificate_sha256: String,
    /// When it took effect.
    pub loaded_at: UnixMillis,
}

/// One store.
#[derive(Clone, Debug, Serialize)]
pub struct StoreStatus {
    /// `secrets` or `state`.
    pub name: &'static str,
    /// Its file.
    pub path: PathBuf,
    /// Whether it can be read.
    pub ready: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<kh_core::Code>,
}

/// The audit log's end.
#[derive(Clone, Debug, Serialize)]
pub struct AuditStatus {
    /// Its file.
    pub path: PathBuf,
    /// Whether it can be read and verifies.
    pub ready: bool,
    /// Number of its last entry; 0 while it is empty.
    pub entries: u64,
    /// Digest of its last entry, in hex.
    pub head: Option<String>,
}

pub(super) async fn status(State(ports): State<AdminPorts>) -> Response<Body> {
    let source = Arc::clone(&ports.status);
    json(StatusCode::OK, &source.status().await)
}
