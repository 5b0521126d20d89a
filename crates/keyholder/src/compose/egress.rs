//! The way out to each platform, as its section of the configuration and `[network]` describe it.
//!
//! Invariant: a proxy is used where the file says so and nowhere else; a variable of the environment alone changes
//! nothing.

use std::{collections::BTreeMap, io::Read, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use kh_core::{Code, PlatformName, SecretBytes, SecretString, StoreName};
use kh_net::{Egress, Identity, ProxyRules, Settings, SystemRoots};

use super::{Paths, tls::read_pem};
use crate::{
    cli::Loaded,
    config::{ClientCertificate, PlatformConfig, ProxyChoice, ProxyConfig, SecretStoreConfig},
    environment::Environment,
    output::Failure,
};

/// Largest file with a private key or a password, in bytes: a chain of certificates with its key has less than 16 KiB.
const PRIVATE_BYTES_MAX: u64 = 64 * 1024;

/// Bits that a file with a secret must not have: its group may read it, as Kubernetes mounts a Secret for `fsGroup`,
/// and nothing more. The same holds for a mounted key of the store.
const OPEN_TO_OTHERS: u32 = 0o037;

/// What the environment says about proxies, in the usual variables. Only `proxy = "environment"` makes it count.
#[derive(Debug, Default)]
pub(crate) struct ProxyVariables {
    https: Option<SecretString>,
    exceptions: String,
}

impl ProxyVariables {
    /// `HTTPS_PROXY`, else `ALL_PROXY`, and `NO_PROXY`; upper case before lower case. `HTTP_PROXY` is for plain http,
    /// which goes to this machine alone.
    pub(crate) fn of(environment: &Environment) -> Self {
        let https =
            ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].iter().find_map(|name| environment.secret(name));
        let exceptions = environment.text("NO_PROXY").or_else(|| environment.text("no_proxy"));
        Self { https, exceptions: exceptions.unwrap_or_default() }
    }

    /// Whether one is set.
    #[cfg(feature = "google")]
    pub(crate) fn is_set(&self) -> bool {
        self.https.is_some()
    }

    /// Whether a proxy is set that the configuration neither takes nor refuses.
    pub(crate) fn unused(&self, loaded: &Loaded) -> bool {
        let config = &loaded.config;
        let own = |platform: &PlatformConfig| platform.network.proxy.as_ref().map(|proxy| proxy.proxy.clone());
        let is_said = config.network.proxy.is_some()
            || config.platforms.values().all(|platform| own(platform).is_some())
            || config.platforms.values().any(|platform| own(platform) == Some(ProxyChoice::Environment));
        self.https.is_some() && !is_said
    }
}

/// The ways out, by platform. Reads every file that they need.
pub(crate) fn egresses(loaded: &Loaded) -> Result<BTreeMap<PlatformName, Arc<Egress>>, Failure> {
    if loaded.proxies.unused(loaded) {
        tracing::warn!("HTTPS_PROXY is set and not used: the configuration names no proxy");
    }
    each(loaded).map(|(name, way)| Ok((name, Arc::new(way?)))).collect()
}

/// What is wrong with the ways out, all of it.
pub(crate) fn broken_ways(loaded: &Loaded) -> Vec<(PlatformName, Failure)> {
    each(loaded).filter_map(|(name, way)| Some((name, way.err()?))).collect()
}

fn each(loaded: &Loaded) -> impl Iterator<Item = (PlatformName, Result<Egress, Failure>)> {
    let system = SystemRoots::load();
    loaded.config.platforms.iter().map(move |(name, platform)| (name.clone(), egress(name, platform, loaded, &system)))
}

fn egress(
    name: &PlatformName,
    platform: &PlatformConfig,
    loaded: &Loaded,
    system: &SystemRoots,
) -> Result<Egress, Failure> {
    let (paths, common) = (&loaded.paths, &loaded.config.network);
    let bundle = paths.extra_ca(platform);
    let extra_ca = bundle.iter().map(|path| read_pem(path)).collect::<Result<Vec<_>, _>>()?;
    let identity = platform.client.as_ref().map(|client| identity(client, paths)).transpose()?;
    let proxy = platform.network.proxy.as_ref().or(common.proxy.as_ref());
    let proxy = proxy.map_or(Ok(ProxyRules::none()), |proxy| rules(proxy, paths, &loaded.proxies))?;
    let source = platform.network.source_address.or(common.source_address).unwrap_or_default();
    Egress::new(Settings { extra_ca, identity, proxy, source }, system).map_err(|error| {
        let failure =
            Failure::of(Code::CONFIG_INVALID, &error).hint(format!("see [platform.{name}] in keyholder.toml"));
        let files = bundle.iter().map(|path| ("extra_ca", path.clone()));
        let client = platform.client.iter().flat_map(|client| {
            [("client_cert", paths.resolve(&client.client_cert)), ("client_key", paths.resolve(&client.client_key))]
        });
        files.chain(client).fold(failure, |failure, (key, path)| failure.hint(format!("{key} is {}", path.display())))
    })
}

/// The way to a secret store: as to a platform that says nothing of its own.
pub(super) fn store_egress(
    name: &StoreName,
    store: &SecretStoreConfig,
    loaded: &Loaded,
    system: &SystemRoots,
) -> Result<Egress, Failure> {
    let (paths, common) = (&loaded.paths, &loaded.config.network);
    let bundle = store.extra_ca.as_ref().map(|path| paths.resolve(path));
    let extra_ca = bundle.iter().map(|path| read_pem(path)).collect::<Result<Vec<_>, _>>()?;
    let proxy = common.proxy.as_ref().map_or(Ok(ProxyRules::none()), |proxy| rules(proxy, paths, &loaded.proxies))?;
    let source = common.source_address.unwrap_or_default();
    Egress::new(Settings { extra_ca, identity: None, proxy, source }, system).map_err(|error| {
        Failure::of(Code::CONFIG_INVALID, &error).hint(format!("see [secret_store.{name}] in keyholder.toml"))
    })
}

/// The proxy and the source of `[network]`, for a way that says nothing of its own.
pub(super) fn common_way(loaded: &Loaded) -> Result<(ProxyRules, kh_net::Source), Failure> {
    let (paths, common) = (&loaded.paths, &loaded.config.network);
    let proxy = common.proxy.as_ref().map_or(Ok(ProxyRules::none()), |proxy| rules(proxy, paths, &loaded.proxies))?;
    Ok((proxy, common.source_address.unwrap_or_default()))
}

/// The way to one platform, for those who ask it about its callers.
pub(super) fn inbound_egress(
    name: &PlatformName,
    platform: &PlatformConfig,
    loaded: &Loaded,
    system: &SystemRoots,
) -> Result<Egress, Failure> {
    egress(name, platform, loaded, system)
}

/// The way to a protected API: direct, because it is the operator's own.
pub(super) fn api_egress(
    extra_ca: Option<&Path>,
    client: Option<&ClientCertificate>,
    paths: &Paths,
    system: &SystemRoots,
) -> Result<Egress, Failure> {
    let extra_ca = extra_ca.iter().map(|path| read_pem(&paths.resolve(path))).collect::<Result<Vec<_>, _>>()?;
    let identity = client.map(|client| identity(client, paths)).transpose()?;
    Egress::new(Settings { extra_ca, identity, ..Settings::default() }, system)
        .map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))
}

/// The way of a hook or a notice, likewise; `section` names it in the configuration.
pub(super) fn sender_egress(
    section: &str,
    extra_ca: Option<&Path>,
    loaded: &Loaded,
    system: &SystemRoots,
) -> Result<Egress, Failure> {
    let (paths, common) = (&loaded.paths, &loaded.config.network);
    let extra_ca = extra_ca.iter().map(|path| read_pem(&paths.resolve(path))).collect::<Result<Vec<_>, _>>()?;
    let proxy = common.proxy.as_ref().map_or(Ok(ProxyRules::none()), |proxy| rules(proxy, paths, &loaded.proxies))?;
    let source = common.source_address.unwrap_or_default();
    Egress::new(Settings { extra_ca, identity: None, proxy, source }, system)
        .map_err(|error| Failure::of(Code::CONFIG_INVALID, &error).hint(format!("see {section} in keyholder.toml")))
}

/// One line of text in a file that nobody but its owner and group may read; the file may end with a newline.
pub(super) fn read_named(path: &Path) -> Result<SecretString, Failure> {
    password(path)
}

fn identity(client: &ClientCertificate, paths: &Paths) -> Result<Identity, Failure> {
    let chain_pem = read_pem(&paths.resolve(&client.client_cert))?;
    Ok(Identity { chain_pem, key_pem: read_private(&paths.resolve(&client.client_key))? })
}

fn rules(proxy: &ProxyConfig, paths: &Paths, variables: &ProxyVariables) -> Result<ProxyRules, Failure> {
    let refused = |error: kh_net::RuleError| Failure::of(Code::CONFIG_INVALID, &error);
    match &proxy.proxy {
        ProxyChoice::None => Ok(ProxyRules::none()),
        ProxyChoice::Environment => match &variables.https {
            None => Ok(ProxyRules::none()),
            Some(value) => ProxyRules::of_variable(value, &variables.exceptions).map_err(|error| {
                refused(error).hint("see HTTPS_PROXY in the environment, or name the proxy in keyholder.toml")
            }),
        },
        ProxyChoice::Url(url) => {
            let path = proxy.proxy_auth_file.as_ref().map(|path| paths.resolve(path));
            let auth = path.as_deref().map(password).transpose()?;
            let exceptions = proxy.no_proxy.as_deref().unwrap_or_default().join(",");
            ProxyRules::new(url, &exceptions, auth.as_ref()).map_err(|error| match path {
                Some(path) => refused(error).hint(format!("proxy_auth_file is {}", path.display())),
                None => refused(error),
            })
        }
    }
}

/// `user:password`; the file may end with a newline.
fn password(path: &Path) -> Result<SecretString, Failure> {
    let text = read_private(path)?.into_text().ok_or_else(|| unusable(path, "is not text"))?;
    Ok(SecretString::copied(text.expose().trim_end_matches(['\r', '\n'])))
}

/// A file that nobody but its owner and group may read.
fn read_private(path: &Path) -> Result<SecretBytes, Failure> {
    let cannot = |error: std::io::Error| unusable(path, "cannot be read").caused_by(&error);
    let file = std::fs::File::open(path).map_err(cannot)?;
    let about = file.metadata().map_err(cannot)?;
    let mode = about.permissions().mode() & 0o777;
    if mode & OPEN_TO_OTHERS != 0 {
        return Err(unusable(path, &format!("may be read by others (mode {mode:03o})"))
            .hint(format!("chmod 600 {}", path.display())));
    }
    if about.len() > PRIVATE_BYTES_MAX {
        return Err(unusable(path, "is too large for a key or a password"));
    }
    // of the final size, so that nothing is left behind by growing
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default() + 1);
    file.take(PRIVATE_BYTES_MAX).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(SecretBytes::new(bytes))
}

fn unusable(path: &Path, problem: &str) -> Failure {
    Failure::new(Code::CONFIG_INVALID, format!("{} {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};

    use super::*;

    #[test]
    fn the_group_may_read_a_file_with_a_secret_and_nobody_may_do_more() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, taken) in [
            (0o400, true),
            (0o440, true),
            (0o600, true),
            (0o640, true),
            (0o444, false),
            (0o460, false),
            (0o660, false),
            (0o604, false),
            (0o644, false),
        ] {
            let path = folder.path().join(format!("{mode:o}"));
            std::fs::write(&path, "a secret\n").unwrap();
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_named(&path).is_ok(), taken, "{mode:o}");
        }
    }
}
