//! Bodies of fuzz targets, which ordinary tests run too: what this crate reads that it has not written itself, or may not
//! have.
//!
//! Invariant: no input makes one of them panic; what they assert holds for every input.

use maxminddb::{Reader, geoip2};

use crate::{Network, collector};

/// Any bytes as a segment of the spool: what is taken for records lies within them.
pub fn spool_segment(bytes: &[u8]) {
    let (lines, length, more) = collector::scan(bytes);
    assert!(length <= bytes.len() as u64, "records lie within their file");
    assert!(more || length == bytes.len() as u64, "what is no record shows");
    assert!(lines == 0 || length > 0, "lines stand in records");
}

/// Any bytes as the file that says how far the spool was sent.
pub fn spool_position(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _position = collector::parse_position(text);
    }
}

/// Any text as a network of the configuration; what is one holds its own first address.
pub fn network(text: &str) {
    if let Ok(network) = text.parse::<Network>() {
        let first = text.split('/').next().unwrap_or_default();
        assert!(first.parse().is_ok_and(|ip| network.contains(ip)), "{text}");
    }
}

/// Any bytes as a location database, read as [`crate::Geo`] reads one, with and without its check.
pub fn location_database(bytes: &[u8]) {
    let Ok(reader) = Reader::from_source(bytes) else { return };
    let _sound = reader.verify();
    for ip in ["1.128.0.1", "81.2.69.160", "2a02:cf40::1", "2001:218::1"] {
        let Ok(ip) = ip.parse() else { continue };
        let Ok(found) = reader.lookup(ip) else { continue };
        let _city = found.decode::<geoip2::City<'_>>();
        let _country = found.decode::<geoip2::Country<'_>>();
        let _asn = found.decode::<geoip2::Asn<'_>>();
    }
}
