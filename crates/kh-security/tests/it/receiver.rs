//! A collector: takes newline-delimited JSON as the well-known ones do, and is told how to misbehave.

use std::{
    convert::Infallible,
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicU16},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// What came in.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) lines: Vec<serde_json::Value>,
    pub(crate) requests: usize,
    pub(crate) tokens: Vec<String>,
    pub(crate) largest: usize,
}

/// A running collector on a thread of its own; it ends with the process.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) received: Arc<Mutex<Received>>,
    /// What it answers; 200 takes the lines.
    pub(crate) status: Arc<AtomicU16>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        Self::started(None)
    }

    /// Over TLS; with the PEM of its certificate for `localhost`.
    pub(crate) fn over_tls() -> (Self, String) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        (Self::started(Some(TlsAcceptor::from(Arc::new(config)))), cert.pem())
    }

    fn started(tls: Option<TlsAcceptor>) -> Self {
        let received = Arc::new(Mutex::new(Received::default()));
        let status = Arc::new(AtomicU16::new(200));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Self { address, received, status };
        let serving = receiver.clone();
        std::thread::spawn(move || runtime.block_on(serving.serve(listener, tls)));
        receiver
    }

    async fn serve(self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (receiver, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => receiver.connection(stream).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            receiver.connection(stream).await;
                        }
                    }
                }
            });
        }
    }

    async fn connection(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let service = service_fn(move |request| self.clone().answer(request));
        // the other side may go away at any time
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Ok(Response::new(Full::default())) };
        let body = body.to_bytes();
        assert_eq!(
            (head.method.as_str(), &head.headers[header::CONTENT_TYPE]),
            ("POST", &"application/x-ndjson".parse().unwrap())
        );
        let text = if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip") {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
            text
        } else {
            String::from_utf8(body.to_vec()).unwrap()
        };
        let status = self.status.load(std::sync::atomic::Ordering::SeqCst);
        let mut received = self.received.lock().unwrap();
        received.requests += 1;
        received.largest = received.largest.max(text.len());
        if let Some(token) = head.headers.get(header::AUTHORIZATION) {
            received.tokens.push(token.to_str().unwrap().to_owned());
        }
        if status == 200 {
            received.lines.extend(text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()));
        }
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok(response)
    }

    pub(crate) fn count(&self) -> usize {
        self.received.lock().unwrap().lines.len()
    }

    pub(crate) fn requests(&self) -> usize {
        self.received.lock().unwrap().requests
    }

    pub(crate) fn answer_with(&self, status: u16) {
        self.status.store(status, std::sync::atomic::Ordering::SeqCst);
    }
}
