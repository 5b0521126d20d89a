//! The few calls of Key Vault that are needed, typed, each bounded in time.
//!
//! Invariant: values pass through buffers that are wiped; the SDK's own models, which keep them as plain text, are not
//! used for them.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc, time::Duration};

use azure_core::{
    Bytes,
    http::{ClientOptions, RetryOptions, Transport},
};
use azure_security_keyvault_secrets::{
    SecretClient, SecretClientOptions,
    models::{
        SecretClientGetSecretOptions, SecretClientListSecretPropertiesOptions,
        SecretClientListSecretPropertiesVersionsOptions, SecretClientUpdateSecretPropertiesOptions,
    },
};
use futures_util::StreamExt;
use kh_core::{
    SecretBytes,
    port::TargetError,
    rotation::{Marker, VersionId, WriteToken},
};
use kh_net::http::HttpClient;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    credential::Login,
    failure::{Call, Failure},
    settings::{Settings, SetupError},
    transport::Wire,
};

/// Names the write of a version.
const TAG_WRITE: &str = "kh-write";
/// Names its run, for people.
const TAG_RUN: &str = "kh-run";
/// Counts the secrets of a credential, for people.
const TAG_GENERATION: &str = "kh-generation";

/// Longest a call may take with login and challenge: three exchanges of the HTTP client's 15 s, and the SDK's waits for
/// the metadata service.
const CALL_MAX: Duration = Duration::from_mins(1);

/// Most items per page that the service takes.
const PAGE: i32 = 25;

/// Most pages read of one secret's versions: 5,000 versions, 13 years of daily rotations.
const VERSION_PAGES_MAX: usize = 200;

/// Most pages read of a vault's secrets: 100,000 names.
const LIST_PAGES_MAX: usize = 4_000;

/// A version with its value.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) version: VersionId,
    pub(crate) value: SecretBytes,
    /// The write that the tag names.
    tagged: Option<String>,
}

impl Bundle {
    /// Whether it is this write: its tag and its document's marker both say so. A document copied by hand has no tag,
    /// and a new value under copied tags has another marker.
    pub(crate) fn is(&self, token: WriteToken) -> bool {
        self.tagged.as_deref() == Some(token.to_string().as_str())
            && Marker::read(&self.value).is_some_and(|marker| marker.write == token)
    }
}

/// A version or a secret in a list, without its value.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// The secret's name.
    pub(crate) name: String,
    /// Empty in a list of secrets.
    pub(crate) version: String,
    pub(crate) enabled: bool,
    /// The write that the tag names.
    pub(crate) tagged: Option<String>,
}

impl Item {
    pub(crate) fn is(&self, token: WriteToken) -> bool {
        self.tagged.as_deref() == Some(token.to_string().as_str())
    }
}

#[derive(Deserialize)]
struct WireItem {
    id: String,
    value: Option<Zeroizing<String>>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
    #[serde(default)]
    attributes: WireAttributes,
}

#[derive(Deserialize, Default)]
struct WireAttributes {
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct WirePage {
    #[serde(default)]
    value: Vec<WireItem>,
}

impl WireItem {
    /// `https://vault/secrets/NAME[/VERSION]`.
    fn parts(&self) -> Option<(String, String)> {
        let url = url::Url::parse(&self.id).ok()?;
        let mut segments = url.path_segments()?.filter(|part| !part.is_empty());
        let _collection = segments.next()?;
        let name = segments.next()?.to_owned();
        Some((name, segments.next().unwrap_or_default().to_owned()))
    }

    fn tagged(&mut self) -> Option<String> {
        self.tags.as_mut().and_then(|tags| tags.remove(TAG_WRITE))
    }

    fn item(mut self) -> Option<Item> {
        let (name, version) = self.parts()?;
        Some(Item { name, version, enabled: self.attributes.enabled.unwrap_or(true), tagged: self.tagged() })
    }
}

#[derive(Serialize)]
struct Set<'a> {
    value: &'a str,
    #[serde(rename = "contentType")]
    content_type: &'static str,
    tags: BTreeMap<&'static str, String>,
}

/// One vault.
pub(crate) struct Vault {
    client: SecretClient,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("endpoint", &self.client.endpoint().as_str()).finish_non_exhaustive()
    }
}

impl Vault {
    pub(crate) fn new(settings: Settings, http: HttpClient) -> Result<Self, SetupError> {
        let vault = settings.vault()?.clone();
        let options = SecretClientOptions {
            client_options: ClientOptions {
                // a call that may be repeated is repeated by its caller, who looks first what came of it
                retry: RetryOptions::none(),
                transport: Some(Transport::new(Arc::new(Wire::only(http.clone(), &vault)))),
                ..ClientOptions::default()
            },
            ..SecretClientOptions::default()
        };
        let login = Arc::new(Login::new(settings, http)?);
        let client = SecretClient::new(vault.as_str(), login, Some(options))
            .map_err(|error| SetupError::Identity(error.to_string()))?;
        Ok(Self { client })
    }

    /// The newest version, or this one.
    pub(crate) async fn get(&self, name: &str, version: Option<&str>) -> Result<Bundle, Failure> {
        let options = SecretClientGetSecretOptions { secret_version: version.map(str::to_owned), ..Default::default() };
        let response = bounded(Call::Read, self.client.get_secret(name, Some(options))).await?;
        bundle(response.into_body().as_ref())
    }

    /// Makes a new version, which is the newest from then on.
    pub(crate) async fn set(&self, name: &str, document: &SecretBytes, marker: &Marker) -> Result<(), Failure> {
        let value = std::str::from_utf8(document.expose()).map_err(|_| unusable("the document is not text"))?;
        let tags = [
            (TAG_WRITE, marker.write.to_string()),
            (TAG_RUN, marker.run.to_string()),
            (TAG_GENERATION, marker.generation.to_string()),
        ];
        let body = Set { value, content_type: "application/json", tags: tags.into_iter().collect() };
        // Each byte may become an escape of six; the names and the tags take under 1 KiB. The buffer never grows.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024 + 6 * value.len()));
        serde_json::to_writer(&mut *bytes, &body).expect("text members always have a JSON form");
        let content = Bytes::from_owner(bytes).into();
        bounded(Call::Write, self.client.set_secret(name, content, None)).await.map(drop)
    }

    /// No longer readable; its value stays in the vault until the secret is purged.
    pub(crate) async fn disable(&self, name: &str, version: &str) -> Result<(), Failure> {
        let options = SecretClientUpdateSecretPropertiesOptions {
            secret_version: Some(version.to_owned()),
            ..Default::default()
        };
        let content = Bytes::from_static(br#"{"attributes":{"enabled":false}}"#).into();
        bounded(Call::Write, self.client.update_secret_properties(name, content, Some(options))).await.map(drop)
    }

    /// All versions of a secret, in no order; none when there is no such secret.
    pub(crate) async fn versions(&self, name: &str) -> Result<Vec<Item>, Failure> {
        let options = SecretClientListSecretPropertiesVersionsOptions { maxresults: Some(PAGE), ..Default::default() };
        let pager = self.client.list_secret_properties_versions(name, Some(options));
        let mut pages = pager.map_err(|error| Failure::of(&error, Call::Read))?.into_pages();
        let mut items = Vec::new();
        for _ in 0..VERSION_PAGES_MAX {
            let Some(page) = late(Call::Read, pages.next()).await? else { return Ok(items) };
            match page {
                Ok(page) => items.extend(page_items(page.into_body().as_ref())?),
                Err(error) => match Failure::of(&error, Call::Read) {
                    Failure::Missing => return Ok(Vec::new()),
                    other => return Err(other),
                },
            }
        }
        Err(unusable(&format!("{name} has more than 5,000 versions; delete and purge it to start anew")))
    }

    /// Hands every secret of the vault to `take`, until it wants no more.
    pub(crate) async fn list(&self, mut take: impl FnMut(Item) -> bool) -> Result<(), Failure> {
        let options = SecretClientListSecretPropertiesOptions { maxresults: Some(PAGE), ..Default::default() };
        let pager = self.client.list_secret_properties(Some(options));
        let mut pages = pager.map_err(|error| Failure::of(&error, Call::Read))?.into_pages();
        for _ in 0..LIST_PAGES_MAX {
            let Some(page) = late(Call::Read, pages.next()).await? else { return Ok(()) };
            let page = page.map_err(|error| Failure::of(&error, Call::Read))?;
            for item in page_items(page.into_body().as_ref())? {
                if !take(item) {
                    return Ok(());
                }
            }
        }
        Err(unusable("the vault has more than 100,000 secrets"))
    }

    /// Whether the name is taken by a deleted secret.
    pub(crate) async fn is_deleted(&self, name: &str) -> Result<bool, Failure> {
        match bounded(Call::Read, self.client.get_deleted_secret(name, None)).await {
            Ok(_) => Ok(true),
            Err(Failure::Missing) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Brings a deleted secret back, which takes some seconds.
    pub(crate) async fn recover(&self, name: &str) -> Result<(), Failure> {
        bounded(Call::Write, self.client.recover_deleted_secret(name, None)).await.map(drop)
    }
}

fn bundle(body: &[u8]) -> Result<Bundle, Failure> {
    let mut wire: WireItem = serde_json::from_slice(body).map_err(|_| undocumented())?;
    let (_, version) = wire.parts().ok_or_else(undocumented)?;
    let value = wire.value.take().ok_or_else(undocumented)?;
    if version.is_empty() {
        return Err(undocumented());
    }
    let tagged = wire.tagged();
    Ok(Bundle { version: VersionId(version), value: SecretBytes::new(value.as_bytes().to_vec()), tagged })
}

fn page_items(body: &[u8]) -> Result<Vec<Item>, Failure> {
    let page: WirePage = serde_json::from_slice(body).map_err(|_| undocumented())?;
    page.value.into_iter().map(|item| item.item().ok_or_else(undocumented)).collect()
}

fn undocumented() -> Failure {
    unusable("Key Vault's answer has another form than documented")
}

fn unusable(why: &str) -> Failure {
    Failure::Other(TargetError::Unusable(why.to_owned()))
}

async fn bounded<T>(call: Call, sending: impl Future<Output = azure_core::Result<T>>) -> Result<T, Failure> {
    late(call, sending).await?.map_err(|error| Failure::of(&error, call))
}

async fn late<T>(call: Call, sending: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(CALL_MAX, sending).await.map_err(|_elapsed| Failure::late(call))
}

#[cfg(test)]
mod tests {
    use kh_core::{Entropy, SeededEntropy};

    use super::*;

    const BUNDLE: &str = r#"{"id":"https://acme.vault.azure.net/secrets/acme/0f1e","value":"{\"_kh\":{}}","tags":{"kh-write":"w"},"attributes":{"enabled":true}}"#;

    #[test]
    fn bundles_and_pages() {
        let found = bundle(BUNDLE.as_bytes()).unwrap();
        assert_eq!((found.version.0.as_str(), found.tagged.as_deref()), ("0f1e", Some("w")));
        let without = |member: &str, instead: &str| bundle(BUNDLE.replace(member, instead).as_bytes());
        for (member, instead) in [
            ("/0f1e", ""),
            ("https://acme.vault.azure.net/secrets/acme", "acme"),
            ("\"value\"", "\"other\""),
            ("}", ""),
        ] {
            assert!(without(member, instead).is_err(), "{instead}");
        }
        let items = page_items(format!("{{\"value\":[{BUNDLE}],\"nextLink\":null}}").as_bytes()).unwrap();
        assert!(items.len() == 1 && items[0].enabled && items[0].name == "acme");
        assert!(page_items(br#"{"value":[{"id":"x"}]}"#).is_err(), "an item that is none spoils the page: it is told");
    }

    #[test]
    fn damaged_answers_are_taken_or_refused_and_errors_tell_nothing_of_them() {
        let page = format!("{{\"value\":[{BUNDLE},{BUNDLE}]}}");
        let entropy = SeededEntropy::new(9);
        let below = |end: usize| usize::try_from(entropy.below(end as u64)).unwrap();
        let (mut taken, mut refused) = (0, 0);
        for round in 0..20_000 {
            let mut input = if round % 2 == 0 { BUNDLE } else { page.as_str() }.as_bytes().to_vec();
            for _ in 0..=below(2) {
                let at = below(input.len());
                input[at] = u8::try_from(below(256)).unwrap();
            }
            let read = if round % 2 == 0 { bundle(&input).map(drop) } else { page_items(&input).map(drop) };
            match read {
                Ok(()) => taken += 1,
                Err(Failure::Other(TargetError::Unusable(text))) => {
                    refused += 1;
                    assert_eq!(text, "Key Vault's answer has another form than documented");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(taken > 1_000 && refused > 1_000, "both happen: {taken} and {refused}");
    }
}
