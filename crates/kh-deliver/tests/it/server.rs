//! An HTTP server that a test gives its behaviour, in clear or over TLS, and that keeps what it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, body.to_string()).with("content-type", "application/json")
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Behaviour = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// A running server; ends with the value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The certificate's PEM, where there is one.
    pub(crate) ca: String,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Plain http.
    pub(crate) async fn start(behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(Arc::new(behaviour), None, String::new()).await
    }

    /// https with a certificate of its own for `localhost` and 127.0.0.1.
    pub(crate) async fn start_tls(behaviour: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let (acceptor, ca) = tls();
        Self::run(Arc::new(behaviour), Some(acceptor), ca).await
    }

    async fn run(behaviour: Behaviour, tls: Option<TlsAcceptor>, ca: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (behaviour, kept, tls) = (Arc::clone(&behaviour), Arc::clone(&kept), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, behaviour, kept).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, behaviour, kept).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, ca, received, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.ca.is_empty() { "http" } else { "https" };
        format!("{scheme}://{}{path}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    behaviour: Behaviour,
    kept: Arc<Mutex<Vec<Received>>>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (behaviour, kept) = (Arc::clone(&behaviour), Arc::clone(&kept));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            let received = Received {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                headers: head.headers,
                body,
            };
            kept.lock().unwrap().push(received.clone());
            let reply = behaviour(&received);
            let mut answer = Response::builder().status(reply.status);
            for (name, value) in reply.headers {
                answer = answer.header(name, value);
            }
            Ok::<_, hyper::Error>(answer.body(Full::new(Bytes::from(reply.body))).unwrap())
        }
    });
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

/// A certificate for this machine and its key, both PEM.
pub(crate) fn certificate() -> (String, String) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

/// A certificate of its own, and its PEM.
pub(crate) fn tls() -> (TlsAcceptor, String) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem())
}
