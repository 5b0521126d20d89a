//! `kind = "azure"`.

use std::sync::Arc;

use kh_core::{Code, port::SecretTarget};
use kh_platform::{HttpClient, Timeouts};
use kh_store_azure::{Auth, KeyVaultTarget, Settings};

use super::{Parts, secret_file};
use crate::{
    config::{AzureAuth, SecretStoreDetail},
    output::Failure,
};

pub(super) fn target(detail: &SecretStoreDetail, parts: &Parts<'_>) -> Result<Arc<dyn SecretTarget>, Failure> {
    let SecretStoreDetail::Azure { vault_url, auth } = detail else {
        return Err(Failure::bug("a store of another kind"));
    };
    let auth = match auth {
        AzureAuth::Managed { client_id, .. } => Auth::ManagedIdentity { client_id: client_id.clone(), metadata: None },
        AzureAuth::Workload { federated_token_file, tenant_id, client_id } => Auth::WorkloadIdentity {
            tenant: tenant_id.clone(),
            client_id: client_id.clone(),
            token_file: parts.loaded.paths.resolve(federated_token_file),
        },
        AzureAuth::ClientSecret { tenant_id, client_id, client_secret_file } => Auth::ClientSecret {
            tenant: tenant_id.clone(),
            client_id: client_id.clone(),
            secret: secret_file(parts, client_secret_file)?,
        },
    };
    let settings = Settings { vault: vault_url.url().clone(), authority: None, auth };
    let http = HttpClient::new(Arc::clone(&parts.egress), Timeouts::default(), Arc::clone(parts.clock));
    let target = KeyVaultTarget::new(settings, http).map_err(|error| {
        Failure::of(Code::CONFIG_INVALID, &error).hint(format!("see [secret_store.{}] in keyholder.toml", parts.name))
    })?;
    Ok(Arc::new(target))
}
