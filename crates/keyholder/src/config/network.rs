//! Reads how connections to platforms leave this machine: `[network]`, and the same keys in a `[platform.NAME]`.
//!
//! Invariant: the address of a proxy that comes out of here holds no user name and no password; a certificate comes
//! with its key, and a file or list that only goes with a proxy comes with one.

use std::net::IpAddr;

use kh_net::{ProxyRules, Source};

use super::{
    model::{ClientCertificate, NetworkConfig, PlatformDetail, ProxyChoice, ProxyConfig},
    reader::{Located, Section},
};

const PROXY_HINT: &str = "write \"http://proxy.example.com:3128\", \"environment\" or \"none\"";

/// Reads `proxy`, `proxy_auth_file`, `no_proxy` and `source_address`.
pub(super) fn read(section: &Section<'_>) -> NetworkConfig {
    NetworkConfig { proxy: proxy(section), source_address: source(section) }
}

/// Reads `client_cert` and `client_key`.
pub(super) fn client_certificate(section: &Section<'_>) -> Option<ClientCertificate> {
    let (cert, key) = (section.path("client_cert"), section.path("client_key"));
    for (given, lacking) in [("client_cert", "client_key"), ("client_key", "client_cert")] {
        if let (Some(place), None) = (section.place(given), section.place(lacking)) {
            let hint = format!("{lacking} = \"...\": certificate and key are two PEM files, or twice the same one");
            section.error(place, format!("{given} without {lacking}"), hint);
        }
    }
    Some(ClientCertificate { client_cert: cert?.value, client_key: key?.value })
}

/// A platform whose address can never be reached from the source address.
pub(super) fn check_families(section: &Section<'_>, detail: &PlatformDetail, network: &NetworkConfig) {
    let Some(source) = network.source_address else { return };
    let Some(place) = section.place("source_address") else { return };
    for address in detail.addresses() {
        let Some(host) = address.url().host_str() else { continue };
        let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() else { continue };
        let (family, reached) = match ip {
            IpAddr::V4(_) => ("IPv4", source.v4.is_some()),
            IpAddr::V6(_) => ("IPv6", source.v6.is_some()),
        };
        if !reached {
            let hint = format!("{host} is {family}: add a source address of that family, or take source_address out");
            section.error(place.clone(), "source_address is of another family than the platform's address", hint);
            return;
        }
    }
}

fn proxy(section: &Section<'_>) -> Option<ProxyConfig> {
    let found = section.parsed("proxy", PROXY_HINT, choice);
    let auth_file = section.path("proxy_auth_file");
    let exceptions = section.texts("no_proxy");
    let is_url = found.as_ref().is_some_and(|found| matches!(found.value, ProxyChoice::Url(_)));
    let is_wrong = found.is_none() && section.place("proxy").is_some();
    for key in ["proxy_auth_file", "no_proxy"] {
        if let Some(place) = section.place(key).filter(|_| !is_url && !is_wrong) {
            section.error(
                place,
                format!("{key} goes with the address of a proxy in the same section"),
                "write proxy = \"http://proxy.example.com:3128\" beside it, or take it out",
            );
        }
    }
    let no_proxy = exceptions.map(|all| all.into_iter().filter_map(|item| exception(section, item)).collect());
    let proxy_auth_file = auth_file.map(|found| found.value);
    Some(ProxyConfig { proxy: found?.value, proxy_auth_file, no_proxy })
}

fn choice(text: &str) -> Result<ProxyChoice, String> {
    match text {
        "none" => Ok(ProxyChoice::None),
        "environment" => Ok(ProxyChoice::Environment),
        url if url.contains('@') => {
            Err("the address of a proxy holds no user name and no password here; they stand in \
                                         the file that proxy_auth_file names, as user:password"
                .to_owned())
        }
        url if url.contains("://") => match ProxyRules::new(url, "", None) {
            Ok(_) => Ok(ProxyChoice::Url(url.to_owned())),
            Err(error) => Err(error.to_string()),
        },
        _ => Err("it is neither an address with http:// nor one of the words".to_owned()),
    }
}

/// A name, address or network, as `NO_PROXY` lists them between commas.
fn exception(section: &Section<'_>, item: Located<&str>) -> Option<String> {
    let word = !item.value.is_empty() && !item.value.contains(|letter: char| letter == ',' || letter.is_whitespace());
    if word && !item.value.contains("://") {
        return Some(item.value.to_owned());
    }
    section.error(
        item.span,
        "no_proxy lists names, addresses and networks, each as an item of its own",
        "write no_proxy = [\"internal.example.com\", \"10.0.0.0/8\"]",
    );
    None
}

fn source(section: &Section<'_>) -> Option<Source> {
    let mut source = Source::default();
    for item in section.texts("source_address")? {
        let hint = "write source_address = [\"192.0.2.10\"], with at most one address of each family";
        match item.value.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                section.error(item.span, "source_address is no address that a connection can leave from", hint);
            }
            Ok(IpAddr::V4(_)) if source.v4.is_some() => {
                section.error(item.span, "source_address has two IPv4 addresses", hint);
            }
            Ok(IpAddr::V6(_)) if source.v6.is_some() => {
                section.error(item.span, "source_address has two IPv6 addresses", hint);
            }
            Ok(IpAddr::V4(ip)) => source.v4 = Some(ip),
            Ok(IpAddr::V6(ip)) => source.v6 = Some(ip),
            Err(_) => section.error(item.span, "source_address is not an IP address", hint),
        }
    }
    (source != Source::default()).then_some(source)
}
