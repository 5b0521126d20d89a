//! Reads the `[secret_store.NAME]` sections, and references to documents in them.
//!
//! Invariant: a store that comes out of here has one way to log in, and its fallbacks are other stores of the file.

use std::collections::BTreeMap;

use kh_core::{SecretReference, StoreName, secret_reference::EMBEDDED};
use kh_platform::{Address, PlainHttp};

use super::{
    keys::words,
    model::{AzureAuth, SecretStoreConfig, SecretStoreDetail, VaultAuth},
    reader::{Located, Section, nearest},
};

const KINDS: [&str; 4] = ["vault", "aws", "azure", "google"];

/// Most nodes of a cluster: it has seldom more than five.
pub(super) const SERVERS_MAX: usize = 16;

/// The ways to log in to Vault, by the key that stands for each.
const VAULT_LOGINS: [&str; 4] = ["role_id_file", "kubernetes_role", "jwt_role", "token_file"];

/// Every store by name; one with mistakes has a name and no value, so that its users are not blamed for it.
pub(super) type Stores = BTreeMap<StoreName, Option<SecretStoreConfig>>;

/// Reads them all.
pub(super) fn read(root: &Section<'_>) -> Stores {
    let sections = root.named_sections("secret_store");
    let names: Vec<String> = sections.iter().map(|(name, _)| name.value.to_owned()).collect();
    let mut all = Stores::new();
    for (name, section) in sections {
        if name.value == EMBEDDED {
            let hint = "the embedded store is always there under this name; call this one another";
            root.error(name.span.clone(), "store is the name of the embedded store", hint);
        }
        match name.value.parse::<StoreName>() {
            Ok(parsed) => {
                let others: Vec<_> = names.iter().filter(|other| *other != name.value).cloned().collect();
                all.insert(parsed, store(section, &others));
            }
            Err(error) => root.error(name.span, error.to_string(), "rename the section"),
        }
    }
    all
}

fn store(section: Section<'_>, others: &[String]) -> Option<SecretStoreConfig> {
    let kind = section.kind(&KINDS)?;
    let detail = match kind {
        "vault" => vault(&section),
        "aws" => aws(&section),
        "azure" => azure(&section),
        _ => google(&section),
    };
    let fallback = section.names("fallback", "secret_store", others).unwrap_or_default();
    let fallback = fallback.iter().filter_map(|name| name.parse().ok()).collect();
    let stale_max = section.duration("stale_max").map(|found| found.value);
    // Google's client makes its own connections and cannot be told of an authority
    let extra_ca = if kind == "google" { None } else { section.path("extra_ca").map(|found| found.value) };
    section.finish();
    Some(SecretStoreConfig { detail: detail?, fallback, stale_max, extra_ca })
}

/// A base address.
pub(super) fn address(section: &Section<'_>, key: &'static str) -> Option<Address> {
    let hint = "write an address such as \"https://vault.example.com:8200\"";
    section.parsed(key, hint, |text| Address::parse(text, PlainHttp::LoopbackOnly)).map(|found| found.value)
}

/// One base address, or a list of them; none when one has a mistake.
fn servers(section: &Section<'_>, key: &'static str) -> Option<Vec<Address>> {
    let hint = "write an address such as \"https://vault.example.com:8200\", or a list of them";
    let found = section.one_or_more(key)?;
    if let (true, Some(place)) = (found.is_empty() || found.len() > SERVERS_MAX, section.place(key)) {
        section.error(place, format!("{key} lists {} servers", found.len()), format!("name 1 to {SERVERS_MAX}"));
        return None;
    }
    let read = |item: Option<Located<&str>>| {
        let Located { value, span } = item?;
        let parsed = Address::parse(value, PlainHttp::LoopbackOnly);
        parsed.map_err(|error| section.error(span, format!("{key}: {error}"), hint)).ok()
    };
    // read one by one before they are put together, so that every mistake is reported
    let read: Vec<_> = found.into_iter().map(read).collect();
    read.into_iter().collect()
}

fn vault(section: &Section<'_>) -> Option<SecretStoreDetail> {
    section.lacking(&[("address", "address = \"https://vault.example.com:8200\"")]);
    let (addresses, auth) = (servers(section, "address"), vault_auth(section));
    Some(SecretStoreDetail::Vault {
        namespace: section.word("namespace", &words::VAULT_PATH),
        mount: section.word("mount", &words::VAULT_PATH),
        auth_mount: section.word("auth_mount", &words::VAULT_PATH),
        auth: auth?,
        addresses: addresses?,
    })
}

fn vault_auth(section: &Section<'_>) -> Option<VaultAuth> {
    let path = |key| section.path(key).map(|found| found.value);
    let (role_id_file, secret_id_file) = (path("role_id_file"), path("secret_id_file"));
    let secret_id_wrapped = section.flag("secret_id_wrapped");
    let (jwt_file, token_file) = (path("jwt_file"), path("token_file"));
    let kubernetes_role = section.word("kubernetes_role", &words::ONE_WORD);
    let jwt_role = section.word("jwt_role", &words::ONE_WORD);
    let given: Vec<_> = VAULT_LOGINS.iter().filter_map(|key| section.place(key)).collect();
    if let [_, second, ..] = given.as_slice() {
        let hint = "keep one of role_id_file, kubernetes_role, jwt_role and token_file";
        section.error(second.clone(), "more than one login", hint);
        return None;
    }
    let goes_with = [
        ("role_id_file", "secret_id_file"),
        ("secret_id_file", "role_id_file"),
        ("secret_id_wrapped", "secret_id_file"),
        ("kubernetes_role", "jwt_file"),
        ("jwt_role", "jwt_file"),
    ];
    let lacking = goes_with.iter().find(|(key, other)| section.place(key).is_some() && section.place(other).is_none());
    if let (Some((key, other)), place) = (lacking, lacking.and_then(|(key, _)| section.place(key))) {
        let place = place.unwrap_or_else(|| section.span.clone());
        section.error(place, format!("{key} without {other}"), format!("{other} = \"...\" beside it"));
        return None;
    }
    if given.is_empty() {
        let hint =
            "write role_id_file and secret_id_file, kubernetes_role and jwt_file, jwt_role and jwt_file, or token_file";
        section.error(section.span.clone(), format!("[{}] lacks a login", section.path), hint);
        return None;
    }
    if let (Some(place), true) = (section.place("jwt_file"), kubernetes_role.is_none() && jwt_role.is_none()) {
        section.warning(place, "jwt_file is not used by this login", "take it out, or add kubernetes_role or jwt_role");
    }
    if section.place("role_id_file").is_some() {
        let secret_id_wrapped = secret_id_wrapped.unwrap_or(false);
        return Some(VaultAuth::Approle {
            role_id_file: role_id_file?,
            secret_id_file: secret_id_file?,
            secret_id_wrapped,
        });
    }
    if section.place("kubernetes_role").is_some() {
        return Some(VaultAuth::Kubernetes { kubernetes_role: kubernetes_role?, jwt_file: jwt_file? });
    }
    if section.place("jwt_role").is_some() {
        return Some(VaultAuth::Jwt { jwt_role: jwt_role?, jwt_file: jwt_file? });
    }
    Some(VaultAuth::Token { token_file: token_file? })
}

fn aws(section: &Section<'_>) -> Option<SecretStoreDetail> {
    section.lacking(&[("region", "region = \"eu-central-1\"")]);
    let external_id = section.word("external_id", &words::ONE_WORD);
    if let (Some(place), None) = (section.place("external_id"), section.place("role_arn")) {
        section.error(place, "external_id without role_arn", "role_arn = \"arn:aws:iam::...\" beside it");
    }
    let (role_arn, profile) = (section.word("role_arn", &words::ARN), section.word("profile", &words::ONE_WORD));
    let endpoint = address(section, "endpoint");
    let region = section.word("region", &words::ONE_WORD)?;
    Some(SecretStoreDetail::Aws { region, profile, role_arn, external_id, endpoint })
}

fn azure(section: &Section<'_>) -> Option<SecretStoreDetail> {
    section.lacking(&[("vault_url", "vault_url = \"https://NAME.vault.azure.net\"")]);
    let vault_url = address(section, "vault_url");
    let tenant_id = section.word("tenant_id", &words::ONE_WORD);
    let client_id = section.word("client_id", &words::ONE_WORD);
    let client_secret_file = section.path("client_secret_file").map(|found| found.value);
    let federated_token_file = section.path("federated_token_file").map(|found| found.value);
    let logins = ["federated_token_file", "client_secret_file"];
    if let [Some(_), Some(place)] = logins.map(|key| section.place(key)) {
        section.error(place, "more than one login", "keep one of federated_token_file and client_secret_file");
        return None;
    }
    let hints =
        [("tenant_id", "tenant_id = \"the directory's id\""), ("client_id", "client_id = \"the application's id\"")];
    for login in logins {
        let Some(place) = section.place(login) else { continue };
        for (key, hint) in hints.iter().filter(|(key, _)| section.place(key).is_none()) {
            section.error(place.clone(), format!("{login} without {key}"), *hint);
        }
    }
    let auth = match (client_secret_file, federated_token_file) {
        (Some(client_secret_file), _) => {
            AzureAuth::ClientSecret { tenant_id: tenant_id?, client_id: client_id?, client_secret_file }
        }
        (None, Some(federated_token_file)) => {
            AzureAuth::Workload { federated_token_file, tenant_id: tenant_id?, client_id: client_id? }
        }
        (None, None) => AzureAuth::Managed { tenant_id, client_id },
    };
    Some(SecretStoreDetail::Azure { vault_url: vault_url?, auth })
}

fn google(section: &Section<'_>) -> Option<SecretStoreDetail> {
    section.lacking(&[("project", "project = \"the project's id\"")]);
    Some(SecretStoreDetail::Google {
        alias: section.word("alias", &words::ONE_WORD),
        credentials_file: section.path("credentials_file").map(|found| found.value),
        endpoint: address(section, "endpoint"),
        project: section.word("project", &words::ONE_WORD)?,
    })
}

/// `store:NAME`, or `STORE:PATH` in a store of the file. Whatever else stands there may be the secret itself and is not
/// repeated.
pub(super) fn reference(
    section: &Section<'_>,
    key: &str,
    found: &Located<&str>,
    stores: &Stores,
) -> Option<SecretReference> {
    let error = |message: String, hint: &str| section.error(found.span.clone(), message, hint);
    if !found.value.contains(':') {
        error(
            format!("{key} must name a document of a secret store, not be one"),
            "run `keyholder secret set NAME` and write secret = \"store:NAME\"; if a real secret stood here, rotate it",
        );
        return None;
    }
    let reference = match found.value.parse::<SecretReference>() {
        Ok(reference) => reference,
        Err(problem) => {
            error(format!("{key}: {problem}"), "write \"store:NAME\", or \"NAME:PATH\" with a [secret_store.NAME]");
            return None;
        }
    };
    if let SecretReference::Stored { store, .. } = &reference
        && !stores.contains_key(store)
    {
        let known = stores.keys().map(StoreName::as_str).chain([EMBEDDED]);
        let hint = match nearest(store.as_str(), known) {
            Some(similar) => format!("did you mean \"{similar}:\"?"),
            None => {
                "add the section [secret_store.NAME] for it, or write \"store:NAME\" for the embedded store".to_owned()
            }
        };
        error(format!("{key}: there is no secret store of this name"), &hint);
        return None;
    }
    Some(reference)
}
