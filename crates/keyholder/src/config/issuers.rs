//! Reads the `[issuer.NAME]` sections: whose tokens protected APIs take.
//!
//! Invariant: no two issuers that come out of here take the same token, so that no token is ever shown to an issuer
//! that it does not name.

use std::{collections::BTreeMap, time::Duration};

use kh_core::{CredentialName, PlatformName, issued::IssuedKind};
use kh_platform::{Address, ClientAuth, PlainHttp};

use super::{
    keys::{inbound as tables, words},
    model::{
        CredentialConfig, EndpointConfig, IssuerWay, KeysConfig, PlatformConfig, PlatformDetail, TokenType,
        TrustDetail, TrustedIssuerConfig,
    },
    reader::{Located, Section},
    stores::{self, Stores},
};

const KINDS: [&str; 4] = ["jwks", "introspection", "genesys", "keyholder"];

/// RFC 7519 section 4.1.4 speaks of a few minutes at most.
const LEEWAY_MAX: Duration = kh_verify::policy::LEEWAY_MAX;

/// An answer that is believed for longer makes a revocation at the issuer late.
const MAX_AGE_RISKY: Duration = Duration::from_mins(10);

/// `iss` of keyholder's own opaque tokens, which nobody outside sees.
pub(crate) const OWN_OPAQUE: &str = "urn:keyholder:tokens";

/// What the sections are read beside.
pub(super) struct Beside<'a> {
    pub(super) platforms: &'a BTreeMap<PlatformName, Option<PlatformConfig>>,
    pub(super) credentials: &'a BTreeMap<CredentialName, CredentialConfig>,
    pub(super) stores: &'a Stores,
    /// `[token_endpoint] issuer`.
    pub(super) own: Option<String>,
}

/// Every issuer by name; one with mistakes has a name and no value, so that its APIs are not blamed for it.
pub(super) type Issuers = BTreeMap<String, Option<TrustedIssuerConfig>>;

/// Reads them all.
pub(super) fn read(root: &Section<'_>, beside: &Beside<'_>) -> Issuers {
    let mut all = Issuers::new();
    let mut taken = Taken::default();
    for (name, section) in root.named_sections("issuer") {
        super::inbound::check_name(root, &name);
        let span = section.span.clone();
        let issuer = issuer(section, beside);
        if let Some(issuer) = &issuer
            && let Some(problem) = taken.claim(name.value, issuer, beside.own.as_deref())
        {
            root.error(span, problem, "a token has one issuer: give each `iss` and each kind of opaque token to one");
        }
        all.insert(name.value.to_owned(), issuer);
    }
    all
}

/// Which tokens have an issuer already.
#[derive(Default)]
struct Taken {
    iss: BTreeMap<String, String>,
    opaque: BTreeMap<String, String>,
}

impl Taken {
    fn claim(&mut self, name: &str, issuer: &TrustedIssuerConfig, own: Option<&str>) -> Option<String> {
        let (iss, opaque) = match &issuer.detail {
            TrustDetail::Jwks { iss, .. } => (iss.clone(), None),
            TrustDetail::Introspection { iss, token_prefix, .. } => {
                (iss.clone(), Some(token_prefix.clone().unwrap_or_default()))
            }
            TrustDetail::Genesys { .. } => (Vec::new(), Some(String::new())),
            TrustDetail::Keyholder {} => {
                let iss = own.into_iter().map(str::to_owned).chain([OWN_OPAQUE.to_owned()]);
                (iss.collect(), Some("kht_".to_owned()))
            }
        };
        for iss in iss {
            if let Some(other) = self.iss.insert(iss, name.to_owned()).filter(|other| other != name) {
                return Some(format!("[issuer.{other}] takes tokens with the same iss"));
            }
        }
        let other = self.opaque.insert(opaque?, name.to_owned())?;
        Some(format!("[issuer.{other}] takes opaque tokens of the same beginning"))
    }
}

fn issuer(section: Section<'_>, beside: &Beside<'_>) -> Option<TrustedIssuerConfig> {
    let kind = section.kind(&KINDS)?;
    let detail = match kind {
        "jwks" => jwks(&section),
        "introspection" => introspection(&section, beside.stores),
        "genesys" => genesys(&section, beside),
        _ => Some(TrustDetail::Keyholder {}),
    };
    let asks = kind == "jwks" || kind == "introspection";
    let audiences = if kind == "genesys" { Vec::new() } else { texts(&section, "audiences") };
    let leeway = if asks { leeway(&section) } else { None };
    let way = if asks {
        IssuerWay {
            private_network: section.flag("private_network").unwrap_or(false),
            extra_ca: section.path("extra_ca").map(|found| found.value),
        }
    } else {
        IssuerWay::default()
    };
    section.finish();
    Some(TrustedIssuerConfig { detail: detail?, audiences, leeway, way })
}

fn leeway(section: &Section<'_>) -> Option<Duration> {
    let found = section.duration("leeway")?;
    if found.value > LEEWAY_MAX {
        section.warning(
            found.span,
            "a leeway of more than 5m counts as 5m",
            "set the clocks, and write leeway = \"30s\"",
        );
    }
    Some(found.value)
}

/// A list of texts, none of them empty.
pub(super) fn texts(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let found = section.texts(key).unwrap_or_default();
    for item in found.iter().filter(|item| item.value.is_empty() || item.value.len() > 2048) {
        section.error(item.span.clone(), format!("{key} holds a text that is empty or too long"), "take it out");
    }
    found.into_iter().map(|found| found.value.to_owned()).collect()
}

fn iss(section: &Section<'_>) -> Vec<String> {
    let values = texts(section, "iss");
    if let (true, Some(place)) = (values.is_empty(), section.place("iss")) {
        section.error(
            place,
            "iss lists nothing",
            "write the `iss` of its tokens, such as [\"https://issuer.example\"]",
        );
    }
    values
}

fn jwks(section: &Section<'_>) -> Option<TrustDetail> {
    section.keeps(&tables::JWKS);
    let iss = iss(section);
    let file = section.path("jwks_file").map(|found| KeysConfig::JwksFile(found.value));
    let url = section.word("jwks_url", &words::DOCUMENT_URL).and_then(|url| checked_url(section, "jwks_url", url));
    let discover = discover(section);
    let algorithms = section.words("algorithms", &words::ALGORITHM);
    if let Some(place) = section.place("algorithms").filter(|_| algorithms.as_ref().is_some_and(Vec::is_empty)) {
        section.error(place, "algorithms lists nothing, so that no token is taken", "algorithms = [\"ES256\"]");
    }
    let types = [("jwt", TokenType::Jwt), ("at+jwt", TokenType::AccessToken)];
    let typ = section.choice("typ", &types).map(|found| found.value).unwrap_or_default();
    let max_token_age = section.duration("max_token_age").map(|found| found.value);
    let max_life = section.duration("max_life").map(|found| found.value);
    Some(TrustDetail::Jwks {
        iss,
        keys: file.or(url.map(KeysConfig::JwksUrl)).or(discover.map(KeysConfig::Discover))?,
        algorithms: algorithms.unwrap_or_default().into_iter().map(|found| found.value).collect(),
        typ,
        max_token_age,
        max_life,
    })
}

fn introspection(section: &Section<'_>, stores: &Stores) -> Option<TrustDetail> {
    section.keeps(&tables::INTROSPECTION);
    let iss = iss(section);
    let url = section.word("introspection_url", &words::DOCUMENT_URL);
    let url = url.and_then(|url| checked_url(section, "introspection_url", url));
    let discover = discover(section);
    let secret = section.text("secret").and_then(|found| stores::reference(section, "secret", &found, stores));
    let methods = [
        ("basic", ClientAuth::Basic),
        ("client_secret_basic", ClientAuth::Basic),
        ("post", ClientAuth::Post),
        ("client_secret_post", ClientAuth::Post),
    ];
    let auth_method = section.choice("auth_method", &methods).map_or(ClientAuth::Basic, |found| found.value);
    let token_prefix =
        section.word("token_prefix", &words::TOKEN_PREFIX).filter(|prefix| is_of_others(section, prefix));
    let max_age = max_age(section);
    let at = url.map(EndpointConfig::IntrospectionUrl).or(discover.map(EndpointConfig::Discover));
    let max_life = section.duration("max_life").map(|found| found.value);
    Some(TrustDetail::Introspection { iss, at: at?, secret: secret?, auth_method, token_prefix, max_age, max_life })
}

/// What begins like a client secret or a guard token of keyholder's own is never asked about.
fn is_of_others(section: &Section<'_>, prefix: &str) -> bool {
    let own = [IssuedKind::ClientSecret, IssuedKind::Guard].iter().any(|kind| prefix.starts_with(kind.prefix()));
    if own {
        let place = section.place("token_prefix").unwrap_or_else(|| section.span.clone());
        let told =
            "token_prefix: tokens that begin so are taken for secrets of keyholder's own, and are shown to nobody";
        section.error(place, told.to_owned(), words::TOKEN_PREFIX.hint);
    }
    !own
}

fn genesys(section: &Section<'_>, beside: &Beside<'_>) -> Option<TrustDetail> {
    section.keeps(&tables::GENESYS);
    let platform = section.text("platform").and_then(|found| known_platform(section, &found, beside.platforms));
    let organization = section.word("organization", &words::UUID);
    let hint = "write the NAME of a [credential.NAME] of that platform";
    let credential = section.parsed("credential", hint, |text| {
        let name = text.parse::<CredentialName>().map_err(|error| error.to_string())?;
        let known = beside.credentials.get(&name).ok_or("there is no credential of this name")?;
        if platform.as_ref().is_some_and(|platform| known.platform != *platform) {
            return Err("it is a credential of another platform".to_owned());
        }
        Ok(name)
    });
    let max_age = max_age(section);
    Some(TrustDetail::Genesys {
        platform: platform?,
        organization: organization?,
        credential: credential?.value,
        max_age,
        max_life: section.duration("max_life").map(|found| found.value),
    })
}

fn known_platform(
    section: &Section<'_>,
    found: &Located<&str>,
    platforms: &BTreeMap<PlatformName, Option<PlatformConfig>>,
) -> Option<PlatformName> {
    let name = super::sections::known_platform(section, found, platforms)?;
    let detail = platforms.get(&name).and_then(Option::as_ref).map(|platform| &platform.detail);
    if detail.is_some_and(|detail| !matches!(detail, PlatformDetail::Genesys { .. })) {
        let hint = "other platforms' tokens are JWTs: take kind = \"jwks\", or kind = \"introspection\"";
        section.error(found.span.clone(), "this platform is not of kind genesys", hint);
    }
    Some(name)
}

fn max_age(section: &Section<'_>) -> Option<Duration> {
    let found = section.duration("max_age")?;
    if found.value > MAX_AGE_RISKY {
        let problem = "a token that its issuer revoked may be taken for as long as max_age";
        section.warning(found.span, problem, "max_age = \"1m\"");
    }
    Some(found.value)
}

fn discover(section: &Section<'_>) -> Option<Address> {
    let hint = "write the issuer, such as \"https://issuer.example\"";
    section.parsed("discover", hint, |text| Address::parse(text, PlainHttp::LoopbackOnly)).map(|found| found.value)
}

/// An address that a pattern let through, as those who fetch it read it.
fn checked_url(section: &Section<'_>, key: &'static str, url: String) -> Option<String> {
    match kh_platform::inbound::KeysAt::url(&url, PlainHttp::LoopbackOnly) {
        Ok(_) => Some(url),
        Err(error) => {
            let place = section.place(key).unwrap_or_else(|| section.span.clone());
            section.error(place, format!("{key}: {error}"), words::DOCUMENT_URL.hint);
            None
        }
    }
}
