//! A tunnel through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6).
//!
//! Invariant: what comes out carries only the platform's bytes; a proxy that speaks on after its answer is refused,
//! because a TLS server never speaks first.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::{client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{ConnectError, proxy::Hop};

/// Largest head of a proxy's answer, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// Asks the proxy at the other end of `stream` for a way to `host` and `port`.
pub(crate) async fn open(
    stream: TcpStream,
    hop: &Hop,
    host: &str,
    port: u16,
    auth: Option<&HeaderValue>,
) -> Result<TcpStream, ConnectError> {
    let not_a_proxy = || ConnectError::ProxyProtocol { proxy: hop.to_string() };
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = Request::builder().method(Method::CONNECT).uri(&place).header(header::HOST, &place);
    if let Some(auth) = auth {
        request = request.header(header::PROXY_AUTHORIZATION, auth);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| not_a_proxy())?;
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_MAX);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|_| not_a_proxy())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|_| not_a_proxy())?;
        match response.status() {
            status if status.is_success() => upgrade::on(response).await.map_err(|_| not_a_proxy()),
            // 407 is the status for it; tinyproxy says 401 to a wrong password
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
                Err(ConnectError::ProxyAuth { proxy: hop.to_string() })
            }
            status => Err(ConnectError::ProxyRefused { proxy: hop.to_string(), status: status.as_u16() }),
        }
    };
    let mut driver = std::pin::pin!(connection.with_upgrades());
    let mut answer = std::pin::pin!(answer);
    // the connection ends when it is handed over, and the answer is complete only then
    let upgraded = tokio::select! {
        biased;
        upgraded = &mut answer => upgraded?,
        _ended = &mut driver => answer.await?,
    };
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| not_a_proxy())?;
    if !parts.read_buf.is_empty() {
        return Err(not_a_proxy());
    }
    Ok(parts.io.into_inner())
}
