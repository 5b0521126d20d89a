//! Protocol upgrades (RFC 9110 section 7.8): asked for on the caller's behalf, and after the upstream's 101 a tunnel
//! of bytes.
//!
//! Invariants: HTTP itself is never tunnelled. An offer of `h2c`, `HTTP/x` or `TLS/x` is not forwarded and the request
//! is answered over HTTP/1.1, as the RFC allows: in such a tunnel further requests would pass unseen. A tunnel that a
//! token opened does not outlive the token. A tunnel keeps its caller's place among the connections of the worker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    body::ReplyBody,
    right::{self, Right},
};
use crate::{answer::Answer, guards::Head, metrics::Outcome, observe::Trail, request::Caller, upstream::Conn};

/// Bytes read at once in a tunnel; web socket messages are mostly smaller.
const CHUNK: usize = 16 * 1024;

/// A tunnel that a caller asks for.
pub(crate) struct Tunnel {
    protocol: HeaderValue,
    of_caller: OnUpgrade,
    /// By which right it stands; none where no token opens it.
    pub(crate) right: Option<Box<dyn Right>>,
}

/// The tunnel that the caller asks for, if its protocol can be tunnelled.
pub(crate) fn wanted(parts: &mut Parts, head: Head) -> Option<Tunnel> {
    if !head.upgrade || !head.connection || head.chunked {
        return None;
    }
    let asked = parts.headers.get_all(header::CONNECTION).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    let protocol = parts.headers.get(header::UPGRADE)?.clone();
    let name = protocol.as_bytes().split(|byte| *byte == b'/').next()?.trim_ascii().to_ascii_lowercase();
    let plain = !name.is_empty() && name.iter().all(u8::is_ascii_graphic) && !name.contains(&b',');
    if !asked || !plain || matches!(name.as_slice(), b"h2c" | b"h2" | b"http" | b"tls") {
        return None;
    }
    let of_caller = parts.extensions.remove::<OnUpgrade>()?;
    Some(Tunnel { protocol, of_caller, right: None })
}

impl Tunnel {
    /// Asks the upstream.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }
}

/// Joins both sides after the upstream's 101.
pub(crate) fn join(
    caller: &Caller,
    mut response: Response<Incoming>,
    conn: Conn,
    tunnel: Tunnel,
    trail: Option<Arc<Trail>>,
) -> Answer {
    let Tunnel { of_caller, right, .. } = tunnel;
    let of_upstream = hyper::upgrade::on(&mut response);
    let (idle, look) = (caller.worker.limits.tunnel_idle, caller.worker.limits.tunnel_look);
    let clock = Arc::clone(&caller.worker.ports.clock);
    caller.sniff.tunnel();
    let slot = caller.slot.clone();
    caller.worker.tasks.spawn(async move {
        let (upstream, caller) = match (of_upstream.await, of_caller.await) {
            (Ok(upstream), Ok(caller)) => (upstream, caller),
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(%error, "a protocol upgrade was not completed");
                return;
            }
        };
        let over = async {
            match &right {
                Some(right) => right::over(&**right, &*clock, look).await,
                None => std::future::pending().await,
            }
        };
        let moved = carry(TokioIo::new(caller), TokioIo::new(upstream), idle, over).await;
        if let Some(trail) = trail {
            trail.read(0, moved.up.into_inner());
            trail.wrote(moved.down.into_inner());
        }
        drop((conn, slot));
    });
    (response.map(|_| ReplyBody::whole(Bytes::new())), Outcome::Proxied)
}

/// Bytes that went through a tunnel.
#[derive(Default)]
struct Moved {
    up: AtomicU64,
    down: AtomicU64,
}

/// Copies both ways until both are done, one of them breaks (also by a side that takes nothing any more), nothing moves
/// for `idle`, or it is `over`.
async fn carry<A, B>(caller: A, upstream: B, idle: Duration, over: impl Future<Output = ()>) -> Moved
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let moved = Moved::default();
    let (caller_in, caller_out) = tokio::io::split(caller);
    let (upstream_in, upstream_out) = tokio::io::split(upstream);
    let both = async {
        tokio::try_join!(copy(caller_in, upstream_out, &moved.up), copy(upstream_in, caller_out, &moved.down))
    };
    let watch = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(idle).await;
            let now = moved.up.load(Ordering::Relaxed) + moved.down.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    };
    tokio::select! {
        result = both => {
            if let Err(error) = result {
                tracing::debug!(%error, "one side of a tunnel broke");
            }
        }
        () = watch => tracing::debug!("a tunnel stood still and was closed"),
        () = over => tracing::debug!("the token that opened a tunnel is not good any more, and the tunnel was closed"),
    }
    moved
}

async fn copy<R, W>(mut from: R, mut to: W, moved: &AtomicU64) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return to.shutdown().await };
        moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        to.write_all(bytes).await?;
        to.flush().await?;
    }
}
