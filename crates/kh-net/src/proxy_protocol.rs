//! The PROXY protocol, versions 1 and 2: how a proxy that forwards connections tells whose connection it is.
//!
//! Source: HAProxy's `proxy-protocol.txt`, revision of 2020/03/05 and later. The receiver must be told from whom such a
//! header comes ("MUST be configured to only receive the protocol described in this specification and MUST not try to
//! guess whether the protocol header is present or not", section 2): this module reads bytes only.
//!
//! Invariant: never a byte beyond the header is asked for, because what follows belongs to another protocol; and of a
//! header that is wrong anywhere nothing is believed.

mod crc32c;
mod v1;
mod v2;

use std::{net::SocketAddr, ops::ControlFlow};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest header that is taken, in bytes. Version 1 has at most 107; in version 2 the addresses have at most 216, and
/// the rest is room for the extensions that clouds and TLS-terminating proxies add (a client certificate's name).
pub const HEADER_MAX: usize = 4 * 1024;

/// What a header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The proxy itself connected, to see whether somebody is there (`LOCAL`).
    Local,
    /// The proxy does not know, or the client came by something else than TCP (`UNKNOWN`, `UNSPEC`, a unix socket).
    Unknown,
    /// The client's connection to the proxy.
    Tcp {
        /// The client.
        source: SocketAddr,
        /// Whom it connected to.
        destination: SocketAddr,
    },
}

/// Why a connection's first bytes were refused. Carries none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// They begin like no header.
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    /// Not as the specification has it.
    #[error("the PROXY protocol header is malformed: {0}")]
    Malformed(&'static str),
    /// A version, command or family that does not exist or is not for connections.
    #[error("the PROXY protocol header has an unknown version, command or family")]
    Unsupported,
    /// Longer than [`HEADER_MAX`].
    #[error("the PROXY protocol header has more than {HEADER_MAX} bytes")]
    TooLong,
    /// Its checksum does not fit (section 2.2.3).
    #[error("the PROXY protocol header's checksum does not fit")]
    Checksum,
}

/// A header that was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length in bytes.
    pub length: usize,
    /// What it tells.
    pub told: Told,
}

/// Reads a header from the first bytes of a connection. When there are too few, tells how many more it has at least.
pub fn parse(bytes: &[u8]) -> Result<ControlFlow<Header, usize>, HeaderError> {
    match bytes.first() {
        None => Ok(ControlFlow::Continue(v2::SIGNATURE.len())),
        Some(b'P') => v1::parse(bytes),
        Some(b'\r') => v2::parse(bytes),
        Some(_) => Err(HeaderError::Missing),
    }
}

/// Why no header was read from a connection.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection broke or ended within the header.
    #[error("the connection broke before its PROXY protocol header was there")]
    Io(#[from] std::io::Error),
    /// The bytes are no header.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// Reads a header from a connection, and not a byte more. The caller limits the time.
pub async fn read<R: AsyncRead + Unpin>(connection: &mut R) -> Result<Told, ReadError> {
    let mut bytes = Vec::with_capacity(128);
    loop {
        match parse(&bytes)? {
            ControlFlow::Break(header) => return Ok(header.told),
            ControlFlow::Continue(more) => {
                let start = bytes.len();
                bytes.resize(start + more, 0);
                connection.read_exact(bytes.get_mut(start..).unwrap_or_default()).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
