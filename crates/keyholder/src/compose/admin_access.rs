//! Who may use the admin listener, and its certificate: what a reload exchanges.

use std::sync::Arc;

use kh_admin::{Guard, Operator, Operators};
use kh_core::{Clock, port::security::Security};
use kh_gateway::{ClientAuth, ClientTrust};
use parking_lot::Mutex;

use super::{
    listeners::Local,
    tls::{Certificate, Served, client_trust, read_pem, server_tls},
};
use crate::{cli::Loaded, config::Config, output::Failure};

/// The admin listener's operators and certificate.
#[derive(Default)]
pub(super) struct AdminAccess {
    operators: Operators,
    /// Who comes with the guard token; none before the listener is there.
    local: Mutex<Option<Operator>>,
    certificate: Option<Served>,
}

impl AdminAccess {
    /// With the operators of a configuration.
    pub(super) fn new(config: &Config, certificate: Option<Served>) -> Self {
        let access = Self { certificate, ..Self::default() };
        access.admit(config);
        access
    }

    /// The operators, as they are from now on.
    pub(super) fn operators(&self, config: &Config, guard: &Guard) -> Operators {
        *self.local.lock() = Some(Operator::local(guard));
        self.admit(config);
        self.operators.clone()
    }

    /// Takes over another configuration.
    pub(super) fn replace(&self, loaded: &Loaded, certificate: Option<Certificate>) {
        self.admit(&loaded.config);
        if let (Some(served), Some(certificate)) = (&self.certificate, certificate) {
            served.replace(certificate);
        }
    }

    fn admit(&self, config: &Config) {
        let named = config.operators.iter().map(|(name, operator)| operator.operator(name));
        self.operators.replace(named.chain(self.local.lock().clone()));
    }

    /// The https listener, if there is to be one. `security` is told of the certificates that it does not take.
    pub(super) async fn bind(
        &self,
        loaded: &Loaded,
        (security, clock): (Security, &Arc<dyn Clock>),
    ) -> Result<Option<Local>, Failure> {
        let (Some(tls), Some(served)) = (&loaded.config.admin.tls, &self.certificate) else { return Ok(None) };
        let clients = trust(loaded)?;
        let config = server_tls(served.slot(), clients.as_ref())?;
        let speaks = kh_admin::Tls { config, security, clock: Arc::clone(clock) };
        Local::bind_tls("admin", tls.listen, speaks).await.map(Some)
    }
}

/// The operators' certificates that the https listener takes; none if it asks for none.
pub(super) fn trust(loaded: &Loaded) -> Result<Option<ClientTrust>, Failure> {
    let named = loaded.config.admin.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
    let Some(path) = named.map(|path| loaded.paths.resolve(path)) else { return Ok(None) };
    // who comes without a certificate has a token
    client_trust(&path, &read_pem(&path)?, ClientAuth::Optional, Vec::new()).map(Some)
}
