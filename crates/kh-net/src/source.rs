//! The address that connections leave from.
//!
//! Invariant: once one is set, no connection leaves from another: a platform that accepts a client from one address
//! only would refuse it, and tell nobody why.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Fixed source addresses, at most one per family. With none, the system chooses.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Source {
    /// For connections over IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For connections over IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Source {
    /// Where a connection to `target` leaves from; `None` leaves it to the system.
    pub(crate) fn towards(&self, target: SocketAddr) -> Option<IpAddr> {
        match target {
            SocketAddr::V4(_) => self.v4.map(IpAddr::V4),
            SocketAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }

    /// Whether `target` may be connected to: with a source address of one family alone, the other one is not used.
    pub(crate) fn reaches(&self, target: SocketAddr) -> bool {
        *self == Self::default() || self.towards(target).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_family_shuts_out_the_other() {
        let (v4, v6) = (Some(Ipv4Addr::LOCALHOST), Some(Ipv6Addr::LOCALHOST));
        for (source, to_v4, to_v6) in [
            (Source::default(), true, true),
            (Source { v4, v6: None }, true, false),
            (Source { v4: None, v6 }, false, true),
            (Source { v4, v6 }, true, true),
        ] {
            let reaches = |target: &str| source.reaches(target.parse().unwrap());
            assert_eq!((reaches("192.0.2.1:1"), reaches("[2001:db8::1]:1")), (to_v4, to_v6), "{source:?}");
        }
    }
}
