//! Whatever is logged at the finest level, by us or by the SDK, tells no secret, in no spelling.

use std::{
    fmt::Write,
    io,
    sync::{Arc, OnceLock},
};

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_core::port::SecretTarget;
use kh_fakes::Fault;
use kh_store::conformance::target::Bench;
use parking_lot::Mutex;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::support::{Azure, write};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The log of the whole test process, so that the other tests' calls are in it too.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("trace"))
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    })
}

#[tokio::test]
async fn nothing_secret_is_logged_or_told_in_an_error() {
    let log = log();
    let azure = Azure::start().await;
    let secret = "MARKED-value-of-the-credential/+=";
    let (token, document) = write(1, secret);
    let mut told = String::new();
    let faults = [Fault::DropAfter, Fault::FailAfter, Fault::Forbid, Fault::Throttle { retry_after_seconds: None }];
    for fault in faults {
        let target = azure.target();
        let at = azure.fresh_path();
        for operation in ["login", "secrets.set"] {
            azure.vault.control.fault(fault.clone().once().on(operation));
            if let Err(error) = target.stage(&at, token, &document).await {
                writeln!(told, "{error} {error:?}").unwrap();
            }
        }
        azure.vault.control.heal();
        target.stage(&at, token, &document).await.unwrap();
        target.promote(&at, token, None).await.unwrap();
        writeln!(told, "{:?} {target:?}", target.live(&at).await.unwrap()).unwrap();
    }
    let echo = Fault::Answer { status: 400, body: format!("{{\"error\":{{\"message\":\"{secret}\"}}}}") };
    azure.vault.control.fault(echo.once().on("secrets.set"));
    let error = azure.target().stage(&azure.fresh_path(), token, &document).await.unwrap_err();
    writeln!(told, "{error} {error:?}").unwrap();
    assert!(told.lines().count() >= 12, "{told}");

    let logged = String::from_utf8_lossy(&log.0.lock()).into_owned();
    assert!(logged.contains("DEBUG") || logged.contains("TRACE"), "something was logged");
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let percent = |text: &str| text.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    for secret in [secret, &azure.known("client_secret"), "MARKED-"] {
        let middle = &secret[..secret.len() / 3 * 3];
        for spelling in [
            secret.to_owned(),
            BASE64_STANDARD_NO_PAD.encode(middle),
            BASE64_URL_SAFE_NO_PAD.encode(middle),
            hex(secret),
            percent(secret),
        ] {
            assert!(!logged.contains(&spelling), "the log has a secret");
            assert!(!told.contains(&spelling), "an error has a secret");
        }
    }
}
