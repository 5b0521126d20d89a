//! One way out: how connections to a platform are opened.
//!
//! Invariant: two egresses with the same [`EgressId`] open the same connections, so that what one left in a pool may
//! serve the other; with different ids they never share one, because a connection may carry a client certificate.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use kh_core::Sha256;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use crate::{
    ConnectError, Identity, ProxyRules, Reach, Resolve, SetupError, Source, Stream, SystemResolver, SystemRoots,
    dial::dial, proxy::digest_of, tls, tunnel,
};

/// What an operator may set for the way to one platform.
#[derive(Debug, Default)]
pub struct Settings {
    /// PEM bundles of certificate authorities that are trusted beside the system's.
    pub extra_ca: Vec<Vec<u8>>,
    /// The client certificate, where the platform demands one.
    pub identity: Option<Identity>,
    /// The proxy.
    pub proxy: ProxyRules,
    /// Where connections leave from.
    pub source: Source,
}

/// Names an egress by everything that matters to its connections. Made with a secret inside: for comparing only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EgressId(u128);

impl fmt::Debug for EgressId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EgressId")
    }
}

/// Whom to connect to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Name or address, without brackets.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// With TLS: the name that the certificate must have.
    pub server_name: Option<&'a ServerName<'static>>,
}

/// One way out of keyholder.
pub struct Egress {
    id: EgressId,
    digest: Sha256,
    tls: TlsConnector,
    proxy: Arc<ProxyRules>,
    source: Source,
    reach: Reach,
    resolver: Arc<dyn Resolve>,
}

impl Egress {
    /// The way that `settings` describe, with the `system`'s certificate authorities trusted.
    pub fn new(settings: Settings, system: &SystemRoots) -> Result<Self, SetupError> {
        let Settings { extra_ca, identity, proxy, source } = settings;
        let (config, trust) = tls::client_config(system, &extra_ca, identity.as_ref())?;
        Ok(Self::of(config, digest(trust, &proxy, source), Arc::new(proxy), source))
    }

    /// A direct way that trusts exactly these authorities and not the system's: for a platform on this machine.
    pub fn trusting(roots: &[CertificateDer<'static>]) -> Result<Self, SetupError> {
        let (config, trust) = tls::trusting(roots)?;
        Ok(Self::of(config, trust, Arc::new(ProxyRules::none()), Source::default()))
    }

    /// The same proxy, source and reach, trusting exactly these authorities and not the system's, without a client
    /// certificate.
    pub fn trusting_only(&self, roots: &[CertificateDer<'static>]) -> Result<Self, SetupError> {
        let (config, trust) = tls::trusting(roots)?;
        let digest = digest(trust, &self.proxy, self.source);
        let way = Self::of(config, digest, Arc::clone(&self.proxy), self.source);
        Ok(way.with_resolver(Arc::clone(&self.resolver)).with_reach(self.reach))
    }

    /// The same with another source of addresses.
    pub fn with_resolver(self, resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, ..self }
    }

    /// The same to fewer addresses. Its connections are told apart from the other's.
    #[must_use]
    pub fn with_reach(self, reach: Reach) -> Self {
        let digest = digest_of(&[self.digest, Sha256::of(format!("{reach:?}").as_bytes())]);
        Self { reach, digest, id: id_of(digest), ..self }
    }

    fn of(config: Arc<ClientConfig>, digest: Sha256, proxy: Arc<ProxyRules>, source: Source) -> Self {
        let (tls, resolver) = (TlsConnector::from(config), Arc::new(SystemResolver));
        Self { id: id_of(digest), digest, tls, proxy, source, reach: Reach::Anywhere, resolver }
    }

    /// Its identity, cheap to compare.
    pub fn id(&self) -> EgressId {
        self.id
    }

    /// A digest of all settings, for those who compare configurations. Made with secrets inside: not to be shown.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// A connection to `target`, all steps together within `within`.
    pub async fn connect(&self, target: Target<'_>, within: Duration) -> Result<Stream, ConnectError> {
        tokio::time::timeout(within, self.open(target)).await.map_err(|_elapsed| ConnectError::Timeout)?
    }

    async fn open(&self, target: Target<'_>) -> Result<Stream, ConnectError> {
        if target.host.parse().is_ok_and(|address| !self.reach.allows(address)) {
            return Err(ConnectError::NotAllowed);
        }
        let Some(server_name) = target.server_name else {
            return Ok(Stream::Plain(self.dial(target.host, target.port, self.reach).await?));
        };
        let tcp = match self.proxy.on_the_way(target.host, target.port) {
            None => self.dial(target.host, target.port, self.reach).await?,
            Some((hop, auth)) => {
                // the operator's own proxy may be anywhere
                let stream = self.dial(&hop.host, hop.port, Reach::Anywhere).await.map_err(|error| match error {
                    // a mistake on this side of the proxy
                    error @ ConnectError::Source(_) => error,
                    source => ConnectError::ProxyUnreachable { proxy: hop.to_string(), source: Box::new(source) },
                })?;
                tunnel::open(stream, &hop, target.host, target.port, auth).await?
            }
        };
        let stream = self.tls.connect(server_name.clone(), tcp).await.map_err(ConnectError::Tls)?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    async fn dial(&self, host: &str, port: u16, reach: Reach) -> Result<tokio::net::TcpStream, ConnectError> {
        let addresses: Vec<SocketAddr> = match host.parse() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => self.resolver.resolve(host, port).await.map_err(ConnectError::Lookup)?,
        };
        let found = addresses.len();
        let allowed: Vec<SocketAddr> = addresses.into_iter().filter(|address| reach.allows(address.ip())).collect();
        if allowed.is_empty() && found > 0 {
            return Err(ConnectError::NotAllowed);
        }
        dial(allowed, self.source).await
    }
}

fn digest(trust: Sha256, proxy: &ProxyRules, source: Source) -> Sha256 {
    digest_of(&[trust, proxy.digest(), Sha256::of(format!("{source:?}").as_bytes())])
}

fn id_of(digest: Sha256) -> EgressId {
    let mut first = [0; 16];
    first.iter_mut().zip(digest.0).for_each(|(to, from)| *to = from);
    EgressId(u128::from_le_bytes(first))
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("proxy", &self.proxy).field("source", &self.source).finish_non_exhaustive()
    }
}
