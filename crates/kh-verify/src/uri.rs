//! Whether two addresses are one, for the `htu` of a `DPoP` proof (RFC 9449 section 4.3): without query and fragment,
//! after the normalization of RFC 3986 sections 6.2.2 and 6.2.3.
//!
//! Invariant: what cannot be read in one way equals nothing, not even itself.

/// Longest address, in bytes.
const URI_BYTES_MAX: usize = 8 * 1024;

/// Whether both are the same `http` or `https` address.
pub(crate) fn same(one: &str, other: &str) -> bool {
    match (normal(one), normal(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// The one spelling of an address, without query and fragment.
pub(crate) fn normal(uri: &str) -> Option<String> {
    if uri.len() > URI_BYTES_MAX || !uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return None;
    }
    let (scheme, rest) = uri.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "https" => "443",
        "http" => "80",
        _ => return None,
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let rest = rest.get(..end)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.to_ascii_lowercase();
    let (host, port) = host_and_port(&authority)?;
    let colon = if port.is_empty() || port == default_port { "" } else { ":" };
    let port = if colon.is_empty() { "" } else { port };
    Some(format!("{scheme}://{host}{colon}{port}{}", normal_path(path)?))
}

/// A name or address, and the digits of a port if there are any.
fn host_and_port(authority: &str) -> Option<(&str, &str)> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let port = if port.is_empty() { port } else { port.strip_prefix(':')? };
    // user information has no place here, and an escaped host is a second spelling
    let good = !host.is_empty() && !host.contains(['@', '%']) && port.bytes().all(|byte| byte.is_ascii_digit());
    good.then_some((host, port))
}

/// Escapes of unreserved characters undone, other escapes in upper case. Dot segments are refused: no route has them.
fn normal_path(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len().max(1));
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            normal.push(char::from(byte));
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?;
        if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
            normal.push(char::from(value));
        } else {
            normal.extend(['%', hex(value >> 4), hex(value & 15)]);
        }
    }
    if normal.split('/').any(|segment| segment == "." || segment == "..") {
        return None;
    }
    if normal.is_empty() {
        normal.push('/');
    }
    Some(normal)
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address() {
        for (one, other) in [
            ("https://server.example.com/resource", "HTTPS://SERVER.example.com:443/resource?a=b#c"),
            ("https://a", "https://a:443/"),
            ("https://a", "https://a/?x"),
            ("http://a:80/~b", "http://a/%7eb"),
            ("https://a/%2f", "https://a/%2F"),
            ("https://[::1]:8443/x", "https://[::1]:8443/x"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn other_addresses() {
        for (one, other) in [
            ("https://a/", "http://a/"),
            ("https://a/", "https://a:8443/"),
            ("https://a/b", "https://a/B"),
            ("https://a/b", "https://a/b/"),
            ("https://a/b/c", "https://a/b%2Fc"),
            ("https://a/", "https://b/"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
        for nothing in [
            "",
            "a",
            "/x",
            "ftp://a/",
            "https://",
            "https:///x",
            "https://u@a/",
            "https://a/x y",
            "https://a/%",
            "https://a/%zz",
            "https://a/../b",
            "https://a/%2e%2e/b",
            "https://a/./b",
            "https://a\\b/",
            "https://%61/",
            "https://ä/",
            "https://a:443:443/",
            "https://a:x/",
            "https://:443/",
            "https://[::1/",
            "https://[::1]x/",
        ] {
            assert!(!same(nothing, nothing), "{nothing}");
        }
    }
}
