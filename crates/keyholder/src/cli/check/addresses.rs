//! `keyholder check` of the listeners: no two of them can have the same address.
//!
//! Invariant: nothing is bound, so that what other programs hold is not looked at.

use kh_core::Code;

use crate::{
    config::{Config, ListenAddress},
    output::Failure,
};

/// The sections whose address another one before them has, with what is wrong.
pub(super) fn taken_twice(config: &Config) -> Vec<(String, Failure)> {
    let all = listeners(config);
    let mut twice = Vec::new();
    for (index, (section, address)) in all.iter().enumerate() {
        let Some((first, _)) = all.iter().take(index).find(|(_, before)| collide(before, address)) else { continue };
        let shown = match address {
            ListenAddress::Tcp(address) => address.to_string(),
            ListenAddress::Unix(path) => path.display().to_string(),
        };
        let problem = format!("{first} listens on {shown} already");
        twice.push((section.clone(), Failure::new(Code::CONFIG_INVALID, problem)));
    }
    twice
}

/// Every address that is listened on, with its section.
fn listeners(config: &Config) -> Vec<(String, ListenAddress)> {
    let mut all = Vec::new();
    let mut add = |section: &str, addresses: &[ListenAddress]| {
        all.extend(addresses.iter().map(|address| (section.to_owned(), address.clone())));
    };
    add("[gateway]", &config.gateway.listen);
    if let Some(tls) = &config.gateway.tls {
        add("[gateway.tls]", &tls.listen);
    }
    if let Some(address) = config.admin.listen {
        add("[admin]", &[ListenAddress::Tcp(address)]);
    }
    if let Some(tls) = &config.admin.tls {
        add("[admin.tls]", &[ListenAddress::Tcp(tls.listen)]);
    }
    if let Some(address) = config.broker.listen {
        add("[broker]", &[ListenAddress::Tcp(address)]);
    }
    if let Some(path) = &config.broker.socket {
        add("[broker]", &[ListenAddress::Unix(path.clone())]);
    }
    for (name, api) in &config.inbound {
        add(&format!("[inbound.{name}]"), &api.listen);
    }
    all
}

/// Whether the second of two listeners could not be bound. Port 0 is another port each time.
fn collide(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => {
            let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() != 0
                && one.port() == other.port()
                && one.is_ipv4() == other.is_ipv4()
                && (everywhere || one.ip() == other.ip())
        }
        (ListenAddress::Unix(one), ListenAddress::Unix(other)) => one == other,
        (ListenAddress::Tcp(_), ListenAddress::Unix(_)) | (ListenAddress::Unix(_), ListenAddress::Tcp(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listeners_do_not_share_an_address() {
        for (gateway, admin, told) in [
            ("127.0.0.1:8080", "127.0.0.1:8081", None),
            ("127.0.0.1:9000", "127.0.0.1:9000", Some("[gateway] listens on 127.0.0.1:9000 already")),
            ("0.0.0.0:9000", "127.0.0.1:9000", Some("[gateway] listens on 127.0.0.1:9000 already")),
            ("[::1]:9000", "127.0.0.1:9000", None),
            ("127.0.0.1:0", "127.0.0.1:0", None),
            ("unix:a.sock", "127.0.0.1:9000", None),
        ] {
            let text = format!("[gateway]\nlisten = [\"{gateway}\"]\n[admin]\nlisten = \"{admin}\"\n");
            let config = crate::config::parse(text.as_bytes()).unwrap().config;
            let found = taken_twice(&config);
            let found: Vec<_> = found.iter().map(|(section, failure)| (section.as_str(), failure.detail())).collect();
            assert_eq!(found, told.map(|told| ("[admin]", told)).into_iter().collect::<Vec<_>>(), "{text}");
        }
    }
}
