//! Reads one `[platform.NAME]`, and knows the wrong endpoints that circulate in tutorials.
//!
//! Invariant: an address that comes out of here is https, or http on loopback, without user part or query; a region
//! that comes out of here exists.

use kh_core::CredentialName;
use kh_platform::{Address, ClientAuth, PlainHttp, genesys};

use super::{
    model::{CxoneLoginConfig, OAuth2SourceConfig, PlatformConfig, PlatformDetail},
    network,
    reader::{Located, Section, nearest},
    wrong,
};

const KINDS: [&str; 3] = ["genesys", "cxone", "oauth2"];

/// Keys of tutorials that mean something else or nothing on Genesys Cloud and CXone.
const SCOPE_KEYS: [&str; 2] = ["scopes", "scope"];

/// Reads a platform; `None` when it has mistakes, which are reported.
pub(super) fn read(section: Section<'_>) -> Option<PlatformConfig> {
    let Some(kind) = section.text("kind") else {
        if section.place("kind").is_none() {
            let hint = "kind = \"genesys\", \"cxone\" or \"oauth2\"";
            section.error(section.span.clone(), format!("[{}] lacks kind", section.path), hint);
        }
        return None;
    };
    let detail = match kind.value {
        "genesys" => genesys_cloud(&section),
        "cxone" => cxone(&section),
        "oauth2" => oauth2(&section),
        other => {
            let hint = match nearest(other, KINDS.into_iter()) {
                Some(similar) => format!("did you mean \"{similar}\"?"),
                None => "write \"genesys\", \"cxone\" or \"oauth2\"".to_owned(),
            };
            section.error(kind.span, "there is no platform of this kind", hint);
            return None;
        }
    };
    let extra_ca = section.path("extra_ca").map(|found| found.value);
    let client = network::client_certificate(&section);
    let way = network::read(&section);
    let (rotator, rotator_second) = rotators(&section);
    if let Some(detail) = &detail {
        network::check_families(&section, detail, &way);
    }
    section.finish();
    Some(PlatformConfig { detail: detail?, extra_ca, client, network: way, rotator, rotator_second })
}

/// Who makes and deletes secrets; whether they are credentials of this platform is looked at later.
fn rotators(section: &Section<'_>) -> (Option<CredentialName>, Option<CredentialName>) {
    let read = |key| {
        let found = section.parsed(key, "write the NAME of a [credential.NAME]", str::parse::<CredentialName>);
        found.map(|found| found.value)
    };
    let (first, second) = (read("rotator"), read("rotator_second"));
    if let (Some(place), None) = (section.place("rotator_second"), section.place("rotator")) {
        section.error(place, "rotator_second without rotator", "write rotator = \"NAME\" beside it");
    }
    if let (Some(place), true) = (section.place("rotator_second"), first.is_some() && first == second) {
        let hint = "a rotator is never rotated by itself: name another credential, or take rotator_second out";
        section.error(place, "rotator and rotator_second are the same credential", hint);
    }
    (first, second)
}

/// A base address. One of the well-known wrong ones is refused with the right one.
fn address(section: &Section<'_>, key: &'static str) -> Option<Located<Address>> {
    let found = section.text(key)?;
    if let Some(wrong) = wrong::of_address(found.value) {
        let hint = format!("the platform has {}; here, write {}", wrong.right, wrong.setting());
        section.error(found.span, format!("{key}: {}", wrong.problem), hint);
        return None;
    }
    match Address::parse(found.value, PlainHttp::LoopbackOnly) {
        Ok(value) => Some(Located { value, span: found.span }),
        Err(error) => {
            let hint = "write a base address such as \"https://login.mypurecloud.de\"";
            section.error(found.span, format!("{key}: {error}"), hint);
            None
        }
    }
}

fn genesys_cloud(section: &Section<'_>) -> Option<PlatformDetail> {
    refuse_scopes(section, "on Genesys Cloud a client_credentials token has the permissions of the client's roles");
    section.knows(&["token_url"]);
    if let Some(place) = section.place("token_url") {
        section.error(
            place,
            "token_url: keyholder knows where the token endpoint is",
            "write region = \"eu-central-1\"",
        );
    }
    let secrets_api = section.flag("secrets_api").unwrap_or(false);
    let region = section.text("region").and_then(|found| region(section, &found));
    let login = address(section, "login_url").filter(|found| right_genesys_host(section, "login_url", found));
    let api = address(section, "api_url").filter(|found| right_genesys_host(section, "api_url", found));
    if let Some(region) = region {
        let known = |text: &str| Address::parse(text, PlainHttp::LoopbackOnly).ok();
        return Some(PlatformDetail::Genesys {
            region: Some(&region.aws_region),
            login_url: login.map(|found| found.value).or_else(|| known(&region.login))?,
            api_url: api.map(|found| found.value).or_else(|| known(&region.api))?,
            secrets_api,
        });
    }
    if section.place("region").is_none() {
        for key in ["login_url", "api_url"] {
            if section.place(key).is_none() {
                let hint = "write region = \"eu-central-1\" (or another), or both login_url and api_url";
                section.error(section.span.clone(), format!("[{}] lacks region or {key}", section.path), hint);
                return None;
            }
        }
    }
    Some(PlatformDetail::Genesys { region: None, login_url: login?.value, api_url: api?.value, secrets_api })
}

fn region(section: &Section<'_>, found: &Located<&str>) -> Option<&'static genesys::Region> {
    let error = match genesys::find_region(found.value) {
        Ok(region) => return Some(region),
        Err(error) => error,
    };
    let hint = error.did_you_mean.map_or_else(
        || {
            let all: Vec<_> = genesys::regions().iter().map(|region| region.aws_region.as_str()).collect();
            format!("the regions are {}", all.join(", "))
        },
        |similar| format!("did you mean \"{similar}\"?"),
    );
    section.error(found.span.clone(), error.to_string(), hint);
    None
}

/// What only the key tells: a login host is none for calls, and a base ends before the API's own path.
fn right_genesys_host(section: &Section<'_>, key: &str, found: &Located<Address>) -> bool {
    let host = found.value.url().host_str().unwrap_or_default();
    let path = found.value.path();
    let domain = genesys::find_region(host).map_or("<domain>", |region| region.domain.as_str());
    let mistake = if key == "login_url" && host.starts_with("api.") {
        Some((
            format!("{key}: no token endpoint is below an api host"),
            format!("the logins go to https://login.{domain}"),
        ))
    } else if key == "api_url" && host.starts_with("login.") {
        Some((format!("{key}: a login host answers no API calls"), format!("the API is at https://api.{domain}")))
    } else if path.ends_with("/oauth/token") || path.ends_with("/api/v2") {
        Some((
            format!("{key} is a base address without the API's own path"),
            "end it before /oauth/token or /api/v2".to_owned(),
        ))
    } else {
        None
    };
    let Some((message, hint)) = mistake else { return true };
    section.error(found.span.clone(), message, hint);
    false
}

fn refuse_scopes(section: &Section<'_>, why: &str) {
    section.knows(&SCOPE_KEYS);
    for key in SCOPE_KEYS {
        if let Some(place) = section.place(key) {
            section.error(place, format!("{key} has no meaning here"), why);
        }
    }
}

fn cxone(section: &Section<'_>) -> Option<PlatformDetail> {
    refuse_scopes(section, "a CXone token has the permissions of the access key's user");
    section.knows(&["token_url", "grant_type"]);
    for key in ["token_url", "grant_type"] {
        if let Some(place) = section.place(key) {
            let hint = "CXone has no client_credentials grant: write issuer = \"https://cxone.niceincontact.com\"";
            section.error(place, format!("{key}: keyholder knows the login of CXone"), hint);
        }
    }
    let issuer = address(section, "issuer");
    let auth_base = address(section, "auth_base");
    let area = section.parsed("area", "write it like \"na1\"", |text| {
        let word = !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if word { Ok(text.to_ascii_lowercase()) } else { Err("not the name of an area") }
    });
    let api_url = address(section, "api_url");
    let allowed_origins = origins(section);
    let auth_method = auth_method(section).unwrap_or_default();
    let given = ["issuer", "auth_base", "area"].into_iter().filter_map(|key| section.place(key)).collect::<Vec<_>>();
    if let [_, second, ..] = given.as_slice() {
        section.error(second.clone(), "more than one login", "keep one of issuer, area and auth_base");
        return None;
    }
    let login = match (issuer, auth_base, area) {
        (Some(issuer), ..) => CxoneLoginConfig::Global { issuer: issuer.value },
        (None, Some(base), _) => regional(section, base.value, api_url)?,
        (None, None, Some(area)) => {
            // Host patterns of the vendor's own SDK (platform facts, "Areas and hosts").
            let (area, known) = (area.value, |text: String| Address::parse(&text, PlainHttp::LoopbackOnly).ok());
            let api_url = match api_url {
                Some(found) => found.value,
                None => known(format!("https://api-{area}.niceincontact.com"))?,
            };
            CxoneLoginConfig::Regional { auth_base: known(format!("https://{area}.nice-incontact.com"))?, api_url }
        }
        (None, None, None) => {
            if given.is_empty() {
                let hint = "write issuer = \"https://cxone.niceincontact.com\" (application and access key) or area = \"na1\" (access key alone)";
                section.error(section.span.clone(), format!("[{}] lacks issuer or area", section.path), hint);
            }
            return None;
        }
    };
    Some(PlatformDetail::Cxone { login, allowed_origins, auth_method })
}

fn regional(section: &Section<'_>, auth_base: Address, api_url: Option<Located<Address>>) -> Option<CxoneLoginConfig> {
    let Some(api_url) = api_url else {
        if section.place("api_url").is_none() {
            let hint = "the regional login does not tell where the API is: write api_url = \"https://api-na1.niceincontact.com\"";
            section.error(section.span.clone(), format!("[{}] lacks api_url", section.path), hint);
        }
        return None;
    };
    Some(CxoneLoginConfig::Regional { auth_base, api_url: api_url.value })
}

fn origins(section: &Section<'_>) -> Vec<Address> {
    let listed = section.texts("allowed_origins").unwrap_or_default();
    let mut all = Vec::new();
    for item in listed {
        match Address::parse(item.value, PlainHttp::LoopbackOnly) {
            Ok(origin) if origin.path().is_empty() => all.push(origin),
            Ok(_) => section.error(item.span, "an origin has no path", "write it like \"https://gateway.example.com\""),
            Err(error) => section.error(item.span, error.to_string(), "write it like \"https://gateway.example.com\""),
        }
    }
    all
}

fn auth_method(section: &Section<'_>) -> Option<ClientAuth> {
    let found = section.parsed("auth_method", "write \"basic\" or \"post\"", |text| match text {
        "basic" | "client_secret_basic" => Ok(ClientAuth::Basic),
        "post" | "client_secret_post" => Ok(ClientAuth::Post),
        _ => Err("there is no such method"),
    });
    found.map(|found| found.value)
}

fn oauth2(section: &Section<'_>) -> Option<PlatformDetail> {
    let issuer = address(section, "issuer");
    let token_url = address(section, "token_url");
    let api_url = address(section, "api_url");
    let scopes = section.texts("scopes").unwrap_or_default().into_iter().map(|item| item.value.to_owned()).collect();
    for found in [&issuer, &token_url].into_iter().flatten() {
        warn_of_a_known_platform(section, found);
    }
    let audience = section.text("audience").map(|found| found.value.to_owned());
    let auth_method = auth_method(section);
    let assumed_lifetime = section.duration("assumed_lifetime").map(|found| found.value);
    let own_clients = section.flag("own_clients").unwrap_or(false);
    if own_clients && let Some(place) = section.place("rotator") {
        let hint = "take rotator out: secrets of keyholder's own clients are made without a login";
        section.warning(place, "rotator has no meaning beside own_clients", hint);
    }
    let source = match (issuer, token_url) {
        (Some(_), Some(second)) => {
            section.error(second.span, "more than one token endpoint", "keep issuer or token_url");
            None
        }
        (Some(issuer), None) => Some(OAuth2SourceConfig::Discovered { issuer: issuer.value }),
        (None, Some(url)) => Some(OAuth2SourceConfig::Known { token_url: url.value }),
        (None, None) => {
            if section.place("issuer").is_none() && section.place("token_url").is_none() {
                let hint = "write issuer = \"https://...\" (found by RFC 8414) or token_url = \"https://...\"";
                section.error(section.span.clone(), format!("[{}] lacks issuer or token_url", section.path), hint);
            }
            None
        }
    };
    if section.place("api_url").is_none() {
        let hint = "write the address that calls of clients go to";
        section.error(section.span.clone(), format!("[{}] lacks api_url", section.path), hint);
    }
    Some(PlatformDetail::Oauth2 {
        source: source?,
        api_url: api_url?.value,
        scopes,
        audience,
        auth_method,
        assumed_lifetime,
        own_clients,
    })
}

/// Both platforms have an adapter that knows their refusals and rate limits.
fn warn_of_a_known_platform(section: &Section<'_>, found: &Located<Address>) {
    let host = found.value.url().host_str().unwrap_or_default();
    if let Ok(region) = genesys::find_region(host) {
        let span = section.place("kind").unwrap_or_else(|| section.span.clone());
        section.warning(
            span,
            "this is Genesys Cloud, whose scopes do not apply to client credentials and whose rate limit is a 400",
            &format!("kind = \"genesys\" and region = \"{}\"", region.aws_region),
        );
        warn_of_invented_scopes(section);
    } else if [".niceincontact.com", ".nice-incontact.com"].iter().any(|domain| host.ends_with(domain)) {
        let span = section.place("kind").unwrap_or_else(|| section.span.clone());
        section.warning(
            span,
            "this is NICE CXone, which has no client_credentials grant",
            "kind = \"cxone\" and issuer = \"https://cxone.niceincontact.com\"",
        );
    }
}

fn warn_of_invented_scopes(section: &Section<'_>) {
    for item in section.texts("scopes").unwrap_or_default() {
        if let Some(wrong) = wrong::of_scope(item.value) {
            section.warning(
                item.span,
                format!("{}: {}", wrong.found, wrong.problem),
                &format!("the right one: {}", wrong.right),
            );
        }
    }
}
