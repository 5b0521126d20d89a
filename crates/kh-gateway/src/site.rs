//! What stands behind a gateway's listeners.

use std::sync::Arc;

use crate::{inbound::Inbound, outbound::Outbound};

/// Where the requests of a connection lead. Cheap to clone: once per connection.
#[derive(Clone)]
pub(crate) enum Site {
    /// To the platforms.
    Outbound(Arc<Outbound>),
    /// To the user's own API.
    Inbound(Arc<Inbound>),
}
