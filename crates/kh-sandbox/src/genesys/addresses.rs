//! Allowed addresses of a client: single ones and CIDR ranges (RFC 4632, RFC 4291). Invariant: what does not parse
//! allows nobody.

use std::net::IpAddr;

/// Whether `remote` is in one of the ranges; an empty list allows everyone.
pub(super) fn allowed(ranges: &[String], remote: IpAddr) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| contains(range, remote))
}

/// Whether the text is an address or a range.
pub(super) fn is_range(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(range: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = match range.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (range, None),
    };
    let address: IpAddr = address.trim().parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(bits), |length| length.trim().parse().ok())?;
    (length <= bits).then_some((address, length))
}

fn contains(range: &str, remote: IpAddr) -> bool {
    let Some((address, length)) = parse(range) else { return false };
    match (address, remote.to_canonical()) {
        (IpAddr::V4(network), IpAddr::V4(remote)) => {
            shifted(u128::from(network.to_bits()), 32, length) == shifted(u128::from(remote.to_bits()), 32, length)
        }
        (IpAddr::V6(network), IpAddr::V6(remote)) => {
            shifted(network.to_bits(), 128, length) == shifted(remote.to_bits(), 128, length)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// The leading `length` of `bits` bits; a shift by the whole width leaves nothing to compare.
fn shifted(value: u128, bits: u32, length: u32) -> u128 {
    value.checked_shr(bits - length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn ranges() {
        for (ranges, remote, expected) in [
            (&[][..], "127.0.0.1", true),
            (&["127.0.0.1"], "127.0.0.1", true),
            (&["127.0.0.1"], "127.0.0.2", false),
            (&["10.0.0.0/8", "127.0.0.0/8"], "127.1.2.3", true),
            (&["10.0.0.0/8"], "127.0.0.1", false),
            (&["0.0.0.0/0"], "8.8.8.8", true),
            (&["0.0.0.0/0"], "::1", false),
            (&["::/0"], "::1", true),
            (&["fd00::/8"], "fd12::1", true),
            (&["10.0.0.0/33"], "10.0.0.0", false),
            (&["127.0.0.1"], "::ffff:127.0.0.1", true),
        ] {
            let ranges: Vec<String> = ranges.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(allowed(&ranges, remote.parse().unwrap()), expected, "{ranges:?} {remote}");
        }
    }
}
