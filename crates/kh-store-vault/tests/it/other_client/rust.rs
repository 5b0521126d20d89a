//! `vaultrs`.

use kh_core::{SecretBytes, port::BoxFuture};
use serde_json::Value;
use vaultrs::{
    api::{
        self,
        kv2::requests::{ReadSecretRequest, SetSecretRequestOptions},
    },
    client::VaultClient,
    error::ClientError,
    kv2,
};

use super::Engine;

const MOUNT: &str = "secret";

/// Nothing there. Where a 404 has a body, as for a destroyed version, this client gives the bare answer.
pub(crate) fn is_404(error: &ClientError) -> bool {
    matches!(error, ClientError::APIError { code: 404, .. }) || format!("{error:?}").contains("code: 404")
}

impl Engine for VaultClient {
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, (u64, Option<SecretBytes>)> {
        Box::pin(async move {
            let endpoint = ReadSecretRequest::builder().mount(MOUNT).path(key).build().unwrap();
            match api::exec_with_result(self, endpoint).await {
                Ok(read) => (read.metadata.version, Some(SecretBytes::new(read.data.to_string().into_bytes()))),
                Err(error) if is_404(&error) => match kv2::read_metadata(self, MOUNT, key).await {
                    Ok(metadata) => (metadata.current_version, None),
                    Err(error) if is_404(&error) => (0, None),
                    Err(error) => panic!("{error:?}"),
                },
                Err(error) => panic!("{error:?}"),
            }
        })
    }

    fn write<'a>(&'a self, key: &'a str, document: &'a SecretBytes, cas: u64) -> BoxFuture<'a, Option<u64>> {
        Box::pin(async move {
            let value: Value = serde_json::from_slice(document.expose()).unwrap();
            let options = SetSecretRequestOptions { cas: u32::try_from(cas).unwrap() };
            match kv2::set_with_options(self, MOUNT, key, &value, options).await {
                Ok(written) => Some(written.version),
                Err(ClientError::APIError { code: 400, errors }) if errors[0].contains("did not match") => None,
                Err(error) => panic!("{error:?}"),
            }
        })
    }

    fn destroy<'a>(&'a self, key: &'a str, version: u64) -> BoxFuture<'a, ()> {
        Box::pin(async move { kv2::destroy_versions(self, MOUNT, key, vec![version]).await.unwrap() })
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async move {
            match kv2::list(self, MOUNT, folder).await {
                Ok(names) => names,
                Err(error) if is_404(&error) => Vec::new(),
                Err(error) => panic!("{error:?}"),
            }
        })
    }
}
