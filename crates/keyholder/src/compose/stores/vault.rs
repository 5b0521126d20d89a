//! `kind = "vault"`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use kh_core::{Code, port::BoxFuture};
use kh_platform::{HttpClient, Timeouts};
use kh_store_vault::{Auth, ConfigError, PlainHttp, ServerAddress, VaultConfig, VaultStore};

use super::{Parts, Store, secret_file};
use crate::{
    config::{SecretStoreDetail, VaultAuth},
    output::Failure,
};

/// Where Vault mounts an engine unless told otherwise.
const MOUNT: &str = "secret";

/// Longest that a connection to one node of several may take: a read waits 3 s for the whole store, and a node that is
/// switched off must leave time for the next one. A packet that was lost is sent again within a second.
const CONNECT_MAX: Duration = Duration::from_millis(1_500);

pub(super) fn target(detail: &SecretStoreDetail, parts: &Parts<'_>) -> Result<Store, Failure> {
    let SecretStoreDetail::Vault { addresses, namespace, mount, auth, auth_mount } = detail else {
        return Err(Failure::bug("a store of another kind"));
    };
    let refused = |error: ConfigError| {
        Failure::of(Code::CONFIG_INVALID, &error).hint(format!("see [secret_store.{}] in keyholder.toml", parts.name))
    };
    let parse = |address: &kh_platform::Address| ServerAddress::parse(address.text(), PlainHttp::LoopbackOnly);
    let servers = addresses.iter().map(parse).collect::<Result<Vec<_>, _>>().map_err(refused)?;
    let mounted = |usual: &str| auth_mount.clone().unwrap_or_else(|| usual.to_owned());
    let resolve = |path: &std::path::Path| parts.loaded.paths.resolve(path);
    let auth = match auth {
        VaultAuth::Approle { role_id_file, secret_id_file, secret_id_wrapped } => Auth::AppRole {
            mount: mounted("approle"),
            role_id: secret_file(parts, role_id_file)?.expose().to_owned(),
            secret_id_file: resolve(secret_id_file),
            wrapped: *secret_id_wrapped,
        },
        VaultAuth::Kubernetes { kubernetes_role, jwt_file } => Auth::Workload {
            mount: mounted("kubernetes"),
            role: kubernetes_role.clone(),
            token_file: resolve(jwt_file),
        },
        VaultAuth::Jwt { jwt_role, jwt_file } => {
            Auth::Workload { mount: mounted("jwt"), role: jwt_role.clone(), token_file: resolve(jwt_file) }
        }
        VaultAuth::Token { token_file } => Auth::TokenFile(resolve(token_file)),
    };
    let timeouts = timeouts(servers.len());
    let config = VaultConfig::new(servers, mount.as_deref().unwrap_or(MOUNT), auth).map_err(refused)?;
    let config = match namespace {
        Some(namespace) => config.namespace(namespace).map_err(refused)?,
        None => config,
    };
    let http = HttpClient::new(Arc::clone(&parts.egress), timeouts, Arc::clone(parts.clock));
    let store = Arc::new(VaultStore::new(config, http));
    let (kept, name) = (Arc::clone(&store), parts.name.to_string());
    let keep = move || -> BoxFuture<'static, Infallible> {
        let (store, name) = (Arc::clone(&kept), name.clone());
        Box::pin(async move { store.keep_session(&name).await })
    };
    Ok(Store { target: store, keep: Some(Arc::new(keep)) })
}

fn timeouts(nodes: usize) -> Timeouts {
    let usual = Timeouts::default();
    if nodes > 1 { Timeouts { connect: CONNECT_MAX, ..usual } } else { usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_switched_off_leaves_time_for_the_next_one() {
        let (one, two) = (timeouts(1), timeouts(2));
        assert!(two.connect * 2 <= Duration::from_secs(3), "{:?}", two.connect);
        assert!(one.connect > two.connect, "there is no other to ask");
        assert_eq!(one.total, two.total);
    }
}
