//! Names to addresses.
//!
//! Invariant: nothing is remembered. Every new connection asks again, so that a platform that moves is followed as fast
//! as the machine's own resolver follows it.

use std::{io, net::SocketAddr, pin::Pin};

/// A look-up under way.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Who knows the addresses of a name.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`, best first (RFC 6724), each with `port`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a>;
}

/// The machine's own resolver.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}
