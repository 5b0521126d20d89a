//! Clients that other people wrote: curl with nghttp2, and h2load of nghttp2 itself.

use std::{io::Write, path::PathBuf, process::Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use super::*;

/// The root in a file, and a curl that trusts it.
struct Curl {
    _folder: TempDir,
    root: PathBuf,
}

impl Curl {
    fn new(root: &CertificateDer<'static>) -> Self {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pem");
        let mut file = std::fs::File::create(&path).unwrap();
        writeln!(file, "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", BASE64_STANDARD.encode(root))
            .unwrap();
        Self { _folder: folder, root: path }
    }

    /// What curl says on stdout, and whether it was content.
    async fn run(&self, arguments: &[&str]) -> (String, bool) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30", "--cacert"])
            .arg(&self.root)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("curl is installed");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
    }
}

async fn echo() -> Upstream {
    Upstream::start(|request| {
        Box::pin(async {
            let body = whole(request.into_body()).await;
            reply(200, &[("content-type", "text/plain")], format!("{} bytes", body.len()))
        })
    })
    .await
}

#[tokio::test]
async fn curl_over_http2_and_http1() {
    let upstream = echo().await;
    let (root, config) = authority(false);
    let mut setup = Setup::new(upstream.address);
    setup.config.tls = Some(config);
    let world = setup.start().await;
    let curl = Curl::new(&root);
    let url = format!("https://{}/api/v2/users", world.address);
    let token = format!("authorization: Bearer {}", world.token);
    let told = "%{http_version} %{http_code}\n";
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        // two calls and one with a body, on one connection
        let body = "x".repeat(100_000);
        let call = [flag, "-H", &token, "-w", told, &url];
        let (answer, good) = curl.run(&[&call[..], &["-o", "/dev/null"]].concat()).await;
        assert_eq!((answer, good), (format!("{version} 200\n"), true));
        let (answer, good) = curl.run(&[&call[..], &["--data-binary", &body]].concat()).await;
        assert_eq!((answer, good), (format!("100000 bytes{version} 200\n"), true));
        let unknown = [flag, "-H", "authorization: Bearer unknown", "-w", told, "-o", "/dev/null", &url];
        assert_eq!(curl.run(&unknown).await, (format!("{version} 401\n"), true));
    }
}

/// In the clear there is HTTP/1.1 alone, whether HTTP/2 is asked for by an upgrade or taken for granted.
#[tokio::test]
async fn curl_gets_no_http2_in_the_clear() {
    let upstream = echo().await;
    let world = Setup::new(upstream.address).start().await;
    let curl = Curl::new(&authority(false).0);
    let url = format!("http://{}/api/v2/users", world.address);
    let token = format!("authorization: Bearer {}", world.token);
    let told = ["-H", &token, "-o", "/dev/null", "-w", "%{http_version} %{http_code}", &url];
    assert_eq!(curl.run(&[&["--http2"][..], &told].concat()).await, ("1.1 200".to_owned(), true));
    assert!(!upstream.seen()[0].headers.contains_key("upgrade"), "an offer of h2c is not passed on");
    let (_, good) = curl.run(&[&["--http2-prior-knowledge"][..], &told].concat()).await;
    assert!(!good);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_finds_nothing_failed() {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.workers = 2;
    let (world, _caller) = secure(setup).await;
    let url = format!("https://{}/api/v2/users", world.address);
    let token = format!("authorization: Bearer {}", world.token);
    let output = Command::new("h2load")
        .args(["-n", "5000", "-c", "20", "-m", "50", "-H", &token, &url])
        .stdin(Stdio::null())
        .output()
        .await
        .expect("h2load is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let requests = said.lines().find(|line| line.starts_with("requests:")).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(
        requests,
        "requests: 5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout"
    );
    assert!(said.contains("Application protocol: h2"), "{said}");
    assert!(said.contains("status codes: 5000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    assert_eq!(upstream.seen().len(), 5_000);
}
