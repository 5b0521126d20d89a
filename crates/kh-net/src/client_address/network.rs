//! The networks of the proxies that are trusted.
//!
//! Invariant: nobody is trusted by default, and everybody never: a list that holds a whole address family is refused.

use std::net::IpAddr;

use ipnet::IpNet;

/// Most networks: the largest content networks publish under 300.
pub const NETWORKS_MAX: usize = 1_024;

/// Why a network was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not an address and not a network.
    #[error("`{0}` is neither an address nor a network such as 10.0.0.0/8")]
    Syntax(String),
    /// Bits beyond the prefix: which network was meant cannot be told.
    #[error("`{given}` has bits beyond its prefix; the network is {network}")]
    HostBits {
        /// As written.
        given: String,
        /// The network that it lies in.
        network: String,
    },
    /// A whole address family.
    #[error("`{0}` is every address, so that anybody could write the header; name the proxies' networks")]
    Everybody(String),
    /// More than [`NETWORKS_MAX`].
    #[error("there are more than {NETWORKS_MAX} networks")]
    TooMany,
}

/// Networks whose addresses are those of trusted proxies; by default nobody's.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Box<[IpNet]>);

impl TrustedProxies {
    /// From addresses and networks as text, `10.0.0.0/8` or `2001:db8::1`. The first mistake is told with its index.
    pub fn parse<T: AsRef<str>>(networks: &[T]) -> Result<Self, (usize, NetworkError)> {
        if networks.len() > NETWORKS_MAX {
            return Err((NETWORKS_MAX, NetworkError::TooMany));
        }
        let parse = |(at, text): (usize, &T)| network(text.as_ref()).map_err(|error| (at, error));
        Ok(Self(networks.iter().enumerate().map(parse).collect::<Result<_, _>>()?))
    }

    /// Whether this is the address of a trusted proxy.
    pub fn trust(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// Whether nobody is trusted.
    pub fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }
}

/// A network in CIDR form as it is written, or the network of one address. `None` for every other text, and where the
/// address has leading zeros: `010.0.0.0/8` is 10.0.0.0/8 to some programs and 8.0.0.0/8 to others (RFC 6943 section 3.1.1).
pub fn read_network(text: &str) -> Option<IpNet> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(IpNet::from(ip.to_canonical()));
    }
    let (address, _) = text.split_once('/')?;
    address.parse::<IpAddr>().ok()?;
    text.parse().ok()
}

fn network(text: &str) -> Result<IpNet, NetworkError> {
    let network = read_network(text).ok_or_else(|| NetworkError::Syntax(text.to_owned()))?;
    if network.prefix_len() == 0 {
        return Err(NetworkError::Everybody(text.to_owned()));
    }
    let network = canonical(network).ok_or_else(|| NetworkError::Everybody(text.to_owned()))?;
    if network != network.trunc() {
        return Err(NetworkError::HostBits { given: text.to_owned(), network: network.trunc().to_string() });
    }
    Ok(network)
}

/// A network of IPv4 addresses that is written with IPv6 ones, as the former: that is how addresses are compared. `None`
/// when it holds all of IPv4.
fn canonical(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = network else { return Some(network) };
    let mapped = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    let Some(v4) = mapped else { return Some(network) };
    let prefix = v6.prefix_len() - 96;
    if prefix == 0 { None } else { IpNet::new(v4.into(), prefix).ok() }
}
