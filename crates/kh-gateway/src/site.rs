//! What stands behind a gateway's listeners.

use std::{net::IpAddr, sync::Arc};

use kh_core::port::security::Security;

use crate::{inbound::Inbound, outbound::Outbound};

/// Where the requests of a connection lead. Cheap to clone: once per connection.
#[derive(Clone)]
pub(crate) enum Site {
    /// To the platforms.
    Outbound(Arc<Outbound>),
    /// To the user's own API.
    Inbound(Arc<Inbound>),
}

impl Site {
    /// Whether connections from `peer` begin with a PROXY protocol header.
    pub(crate) fn speaks_proxy_protocol(&self, peer: IpAddr) -> bool {
        match self {
            Self::Outbound(site) => site.proxies.speak_proxy_protocol(peer),
            Self::Inbound(site) => site.speaks_proxy_protocol(peer),
        }
    }

    /// What watches over those who authenticate here.
    pub(crate) fn security(&self) -> &Security {
        match self {
            Self::Outbound(site) => &site.security,
            Self::Inbound(site) => site.security(),
        }
    }
}
