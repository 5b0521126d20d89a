//! Where Vault is and how keyholder logs in there.
//!
//! Invariant: an address is https, or plain http where that was allowed, and holds no user part, query or fragment;
//! mounts, roles and namespaces are plain path parts.

use std::{fmt, path::PathBuf};

use url::{Host, Url};

/// Addresses of one cluster: it has seldom more than five nodes.
const ADDRESSES_MAX: usize = 16;

/// Longest mount, namespace or role, in bytes.
const NAME_MAX: usize = 256;

/// Where `http://` is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlainHttp {
    /// Only for this machine: the bytes never leave it.
    LoopbackOnly,
    /// Everywhere; the operator said so.
    Allowed,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not an address. It is not told: it may hold a password by mistake.
    #[error("the address of Vault is not of the form https://host:8200")]
    Address,
    /// A token would be sent in clear.
    #[error("plain http would send tokens in clear: use https, or http on loopback only")]
    PlainHttp,
    /// Too few or too many addresses.
    #[error("1 to {ADDRESSES_MAX} addresses can be configured")]
    Addresses,
    /// A name that cannot stand in a path.
    #[error("{what} {text:?} is not a path of letters, digits, '.', '_' and '-'")]
    Name {
        /// What it names.
        what: &'static str,
        /// As it was given.
        text: String,
    },
}

/// One node or balancer.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerAddress(Url);

impl ServerAddress {
    /// Parses `https://host:8200`.
    pub fn parse(text: &str, plain: PlainHttp) -> Result<Self, ConfigError> {
        let url = Url::parse(text).map_err(|_| ConfigError::Address)?;
        let bare = url.username().is_empty() && url.password().is_none();
        let ends = url.query().is_none() && url.fragment().is_none() && url.path() == "/";
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(ConfigError::Address),
        };
        match url.scheme() {
            "https" | "http" if !bare || !ends => Err(ConfigError::Address),
            "https" => Ok(Self(url)),
            "http" if loopback || plain == PlainHttp::Allowed => Ok(Self(url)),
            "http" => Err(ConfigError::PlainHttp),
            _ => Err(ConfigError::Address),
        }
    }

    /// The address of `path` there, with a query or none.
    pub(crate) fn join(&self, path: &str, query: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("/v1/{path}"));
        url.set_query((!query.is_empty()).then_some(query));
        url
    }

    /// Whether `other` points at the same server.
    pub(crate) fn is_origin_of(&self, other: &str) -> bool {
        Url::parse(other).is_ok_and(|other| other.origin() == self.0.origin())
    }

    /// Host and port, for messages.
    pub(crate) fn shown(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// How keyholder proves who it is, best first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Auth {
    /// The workload's own token, for `auth/kubernetes` or `auth/jwt`: no secret of ours is stored anywhere.
    Workload {
        /// Where the login is mounted, such as `kubernetes`.
        mount: String,
        /// The role.
        role: String,
        /// The file with the token; read anew for each login, since it is replaced while we run.
        token_file: PathBuf,
    },
    /// AppRole.
    AppRole {
        /// Where the login is mounted, such as `approle`.
        mount: String,
        /// The role's id, not secret.
        role_id: String,
        /// The file with the secret id, or with the token that wraps it.
        secret_id_file: PathBuf,
        /// Whether the file holds a wrapping token (`X-Vault-Wrap-TTL`): it can be used once, so that who reads the
        /// file later, or read it before, is found out.
        wrapped: bool,
    },
    /// A token in a file that somebody else keeps fresh, such as a Vault agent.
    TokenFile(PathBuf),
}

/// Everything about one Vault.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    pub(crate) addresses: Vec<ServerAddress>,
    pub(crate) namespace: Option<String>,
    pub(crate) mount: String,
    pub(crate) auth: Auth,
}

impl VaultConfig {
    /// A Vault at `addresses`, tried in their order, whose engine is mounted at `mount` (such as `secret`).
    pub fn new(addresses: Vec<ServerAddress>, mount: &str, auth: Auth) -> Result<Self, ConfigError> {
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(ConfigError::Addresses);
        }
        match &auth {
            Auth::Workload { mount, role, .. } => {
                name("the mount of the login", mount)?;
                name("the role", role)?;
            }
            Auth::AppRole { mount, .. } => drop(name("the mount of the login", mount)?),
            Auth::TokenFile(_) => {}
        }
        Ok(Self { addresses, namespace: None, mount: name("the mount", mount)?, auth })
    }

    /// The same within a namespace (Enterprise).
    pub fn namespace(self, text: &str) -> Result<Self, ConfigError> {
        Ok(Self { namespace: Some(name("the namespace", text.trim_end_matches('/'))?), ..self })
    }
}

fn name(what: &'static str, text: &str) -> Result<String, ConfigError> {
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().any(|byte| byte != b'.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if text.len() <= NAME_MAX && text.split('/').all(plain) {
        return Ok(text.to_owned());
    }
    Err(ConfigError::Name { what, text: text.chars().take(64).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |text: &str| ServerAddress::parse(text, PlainHttp::LoopbackOnly);
        for good in
            ["https://vault:8200", "https://vault", "http://127.0.0.1:8200", "http://[::1]:8200/", "http://localhost"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert_eq!(parse("http://vault:8200").unwrap_err(), ConfigError::PlainHttp);
        assert!(ServerAddress::parse("http://vault:8200", PlainHttp::Allowed).is_ok());
        for bad in
            ["vault:8200", "https://a:b@vault", "https://vault/v1", "https://vault?x", "ftp://vault", "file:///x"]
        {
            assert_eq!(parse(bad).unwrap_err(), ConfigError::Address, "{bad}");
        }
        let address = parse("https://vault:8200").unwrap();
        assert_eq!(
            address.join("secret/data/a+b=c@d", "list=true").as_str(),
            "https://vault:8200/v1/secret/data/a+b=c@d?list=true"
        );
        assert!(address.is_origin_of("https://vault:8200/v1/x") && !address.is_origin_of("https://vault/v1/x"));
    }

    #[test]
    fn names() {
        let config = |mount: &str| {
            let address = ServerAddress::parse("https://vault", PlainHttp::LoopbackOnly).unwrap();
            VaultConfig::new(vec![address], mount, Auth::TokenFile("t".into()))
        };
        assert!(config("kv/team").is_ok() && config("secret").unwrap().namespace("team/a/").is_ok());
        for bad in ["", "/kv", "kv/", "a//b", "..", "a/./b", "a b", "kv?x"] {
            assert!(
                config(bad).is_err() && config("kv").unwrap().namespace(bad.trim_end_matches('/')).is_err()
                    || bad == "kv/",
                "{bad}"
            );
        }
        assert_eq!(
            VaultConfig::new(Vec::new(), "kv", Auth::TokenFile("t".into())).unwrap_err(),
            ConfigError::Addresses
        );
    }
}
