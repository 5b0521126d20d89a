//! What stands behind a gateway's listeners.

use std::sync::Arc;

use crate::outbound::Outbound;

/// Where the requests of a connection lead. Cheap to clone: once per connection.
#[derive(Clone)]
pub(crate) enum Site {
    /// To the platforms.
    Outbound(Arc<Outbound>),
}
