//! Connections to platforms: one pool per worker, used by that worker's thread alone.
//!
//! Invariant: a connection goes back to the pool only when request and answer were both complete; in every other case
//! dropping it ends its task and closes the socket, so a cancelled caller cancels the upstream work.

mod connect;
mod error;
mod origin;
mod pool;

pub(crate) use error::UpstreamError;
pub(crate) use origin::{Origin, OriginError};
pub(crate) use pool::{Conn, Host, Upstreams};
