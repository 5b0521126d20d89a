//! Addresses: networks from the configuration, the key under which an address is counted, and which addresses a
//! location database can know.
//!
//! Invariant: an IPv4 address is the same address however it is written, also inside IPv6 (`::ffff:192.0.2.1`).

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use kh_net::{Reach, client_address::read_network};

/// A network in CIDR form (RFC 4632, RFC 4291 section 2.3), for example `10.0.0.0/8`; a bare address is a network of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network(IpNet);

/// Why a text is no network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetworkError {
    /// Not an address, with or without a length that it can have.
    #[error("it is not an IP address, with or without a prefix length, such as 10.0.0.0/8")]
    Malformed,
    /// Bits are set behind the prefix: a slip of the pen that would let in more than was meant.
    #[error("it has bits set behind the prefix length")]
    HostBits,
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let network = as_ipv4(read_network(text).ok_or(NetworkError::Malformed)?);
        if network != network.trunc() {
            return Err(NetworkError::HostBits);
        }
        Ok(Self(network))
    }
}

/// A network of IPv4 addresses that is written as one of IPv6, `::ffff:10.0.0.0/104`, as what it is.
fn as_ipv4(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else { return network };
    let four = six.addr().to_ipv4_mapped().zip(six.prefix_len().checked_sub(96));
    four.and_then(|(four, prefix)| IpNet::new(four.into(), prefix).ok()).unwrap_or(network)
}

impl Network {
    /// Whether `ip` lies in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

/// What is counted as one place: an IPv4 address, or a /64 of IPv6, all of whose addresses one machine may use at will
/// (RFC 4862, RFC 8981).
pub(crate) fn counted(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(four) => IpAddr::V4(four),
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Whether the address is one of the public internet's: only those can be in a location database.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    Reach::Public.allows(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::a00:1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("::ffff:192.0.2.7", "192.0.2.7", "::c000:207"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "255.1.2.3", "2000::1"),
            ("::/0", "2000::1", "192.0.2.1"),
        ] {
            let network: Network = text.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{text} {outside}");
        }
        for (text, why) in [
            ("", NetworkError::Malformed),
            ("10.0.0/8", NetworkError::Malformed),
            ("10.0.0.0/", NetworkError::Malformed),
            ("10.0.0.0/+8", NetworkError::Malformed),
            ("10.0.0.0/33", NetworkError::Malformed),
            ("10.0.0.0/999", NetworkError::Malformed),
            ("010.0.0.0/8", NetworkError::Malformed),
            ("2.1.022.0/23", NetworkError::Malformed),
            ("::/129", NetworkError::Malformed),
            ("10.0.0.1/8", NetworkError::HostBits),
            ("2001:db8::1/64", NetworkError::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(why), "{text}");
        }
    }

    #[test]
    fn one_place() {
        for (ip, place) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:3:3:4:5:6", "2001:db8:1:3::"),
        ] {
            assert_eq!(counted(ip.parse().unwrap()), place.parse::<IpAddr>().unwrap(), "{ip}");
        }
    }

    #[test]
    fn private_and_reserved_addresses_are_not_public() {
        for ip in [
            "0.1.2.3",
            "10.1.1.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:a00::1",
            "3fff::1",
            "64:ff9b::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.1.0.0",
            "198.20.0.1",
            "::ffff:8.8.8.8",
            "2a02:cf40::1",
            "2001:218::1",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn any_text_is_a_network_or_none() {
        use kh_core::{Entropy, SeededEntropy};
        let entropy = SeededEntropy::new(4632);
        let letters = b"0123456789abcdef.:/+- ";
        let mut networks = 0;
        for round in 0..100_000 {
            let text: String = if round % 2 == 0 {
                let byte = || entropy.below(if round % 4 == 0 { 2 } else { 256 });
                let address = format!("{}.{}.{}.{}", byte(), byte(), byte(), byte());
                format!("{address}/{}", entropy.below(36))
            } else {
                let letter = || letters.get(usize::try_from(entropy.below(letters.len() as u64)).ok()?).copied();
                (0..entropy.below(20)).filter_map(|_| letter().map(char::from)).collect()
            };
            crate::fuzzing::network(&text);
            networks += u32::from(text.parse::<Network>().is_ok());
        }
        assert!(networks > 1_000, "{networks}");
    }
}
