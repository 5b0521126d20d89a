//! Listeners (being built).
pub(crate) async fn start(_config: crate::SandboxConfig) -> Result<crate::SandboxHandle, crate::SandboxError> {
    Err(crate::SandboxError::Crypto)
}
