//! https with a private CA, given as files or as a ready configuration.

use crate::harness::{answer, provider};
use kh_sandbox::{Sandbox, SandboxConfig, TlsFiles};
use std::sync::Arc;

#[tokio::test]
async fn https_with_a_private_certificate() {
    provider();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.certificate, &certificate).unwrap();
    std::fs::write(&files.key, &key).unwrap();
    let der = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let given = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], der)
        .unwrap();
    let by_files = SandboxConfig { tls: Some(files), ..SandboxConfig::default() };
    let by_value = SandboxConfig { tls_server: Some(Arc::new(given)), ..SandboxConfig::default() };
    for config in [by_files, by_value] {
        let sandbox = Sandbox::start(config).await.unwrap();
        assert!(sandbox.genesys_url.starts_with("https://") && sandbox.cxone_url.starts_with("https://"));
        let root = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
        let trusting = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
        let metadata = format!("{}/.well-known/oauth-authorization-server", sandbox.genesys_url);
        let shown = answer(trusting.get(&metadata)).await;
        assert_eq!((shown.status, shown.json()["issuer"].as_str()), (200, Some(sandbox.genesys_url.as_str())));
        let plain = sandbox.genesys_url.replace("https://", "http://");
        assert!(trusting.get(plain).send().await.is_err(), "there is no plain http beside it");
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn an_unusable_certificate_stops_the_start() {
    let files = TlsFiles { certificate: "/nonexistent/cert.pem".into(), key: "/nonexistent/key.pem".into() };
    let error = Sandbox::start(SandboxConfig { tls: Some(files), ..SandboxConfig::default() }).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/cert.pem"), "{error}");
}
