//! What `init` is going to do: every answer, parsed.
//!
//! Invariant: a plan is complete and each value in it was parsed by the code that will read it later.

use std::{fmt::Display, net::SocketAddr, str::FromStr};

use kh_core::{
    ClientName, CredentialName, EnvironmentName, PlatformName, SecretBytes, SecretName, credential::CredentialDocument,
    port::AllowRule,
};
use kh_platform::{Address, PlainHttp};
use kh_policy::AllowList;

use super::{
    InitArgs, Kind,
    dialogue::{self, Dialogue, Question},
    region,
};
use crate::{cli::secret::input, config::mask::mask_words, output::Failure};

/// Everything that is known before the first byte is written.
pub(super) struct Plan {
    pub(super) platform: Platform,
    pub(super) platform_name: PlatformName,
    pub(super) credential: CredentialName,
    /// The same name in the secret store.
    pub(super) secret: SecretName,
    pub(super) environment: Option<EnvironmentName>,
    pub(super) client_id: Option<String>,
    pub(super) access_key_id: Option<String>,
    pub(super) client: Option<FirstClient>,
    pub(super) listen: SocketAddr,
}

/// Where the platform is.
pub(super) enum Platform {
    Genesys {
        region: Option<&'static kh_platform::genesys::Region>,
        login_url: Option<String>,
        api_url: Option<String>,
    },
    CxoneGlobal {
        issuer: String,
    },
    CxoneRegional {
        area: String,
        api_url: Option<String>,
    },
    Oauth2 {
        issuer: Option<String>,
        token_url: Option<String>,
        api_url: String,
        scopes: Vec<String>,
    },
}

/// The application that may log in first.
pub(super) struct FirstClient {
    pub(super) name: ClientName,
    pub(super) allow: Vec<String>,
    pub(super) allow_all: bool,
}

impl FirstClient {
    pub(super) fn summary(&self) -> String {
        let calls = match (self.allow_all, self.allow.is_empty()) {
            (true, _) => "every call but the guarded ones".to_owned(),
            (false, true) => "no call yet".to_owned(),
            (false, false) => self.allow.join(", "),
        };
        format!("{} may make {calls}", self.name)
    }
}

impl Plan {
    pub(super) fn platform_summary(&self) -> String {
        match &self.platform {
            Platform::Genesys { region: Some(found), login_url: None, .. } => {
                format!("Genesys Cloud in {} ({}): {}", found.aws_region, region::place(found), found.login)
            }
            Platform::Genesys { login_url, .. } => {
                format!("Genesys Cloud at {}", login_url.as_deref().unwrap_or("the region's addresses"))
            }
            Platform::CxoneGlobal { issuer } => format!("NICE CXone, application and access key at {issuer}"),
            Platform::CxoneRegional { area, .. } => format!("NICE CXone in {area}, access key alone"),
            Platform::Oauth2 { issuer, token_url, .. } => {
                format!("OAuth 2.0 at {}", issuer.as_ref().or(token_url.as_ref()).map_or("", String::as_str))
            }
        }
    }

    pub(super) fn credential_summary(&self) -> String {
        let ids: Vec<&str> = [&self.client_id, &self.access_key_id].into_iter().flatten().map(String::as_str).collect();
        let environment = self.environment.as_ref().map_or_else(String::new, |name| format!(", environment {name}"));
        let ids = if ids.is_empty() { String::new() } else { format!(", {}", ids.join(" and ")) };
        format!("{}{environment}{ids}", self.credential)
    }

    /// The ids as flags of `secret set`.
    pub(super) fn id_flags(&self) -> String {
        let flags = [("--client-id", &self.client_id), ("--access-key-id", &self.access_key_id)];
        flags.iter().filter_map(|(flag, id)| Some(format!(" {flag} {}", id.as_ref()?))).collect()
    }

    /// A rule that makes sense on this platform.
    pub(super) fn sample_rule(&self) -> &'static str {
        match self.platform {
            Platform::Genesys { .. } => "GET /api/v2/users/**",
            Platform::CxoneGlobal { .. } | Platform::CxoneRegional { .. } => "GET /inContactAPI/services/**",
            Platform::Oauth2 { .. } => "GET /**",
        }
    }

    fn needs_client(&self) -> bool {
        !matches!(self.platform, Platform::CxoneRegional { .. })
    }

    fn needs_access_key(&self) -> bool {
        matches!(self.platform, Platform::CxoneGlobal { .. } | Platform::CxoneRegional { .. })
    }
}

/// Asks for what no flag says.
pub(super) fn make(arguments: &InitArgs, dialogue: &mut Dialogue<'_>) -> Result<Plan, Failure> {
    dialogue.say(
        "Enter takes the value in brackets. Nothing is written before the end; Ctrl-C leaves everything as it is.\n",
    );
    let kind = kind(arguments, dialogue)?;
    let platform = match kind {
        Kind::Genesys => genesys(arguments, dialogue)?,
        Kind::Cxone => cxone(arguments, dialogue)?,
        Kind::Oauth2 => oauth2(arguments, dialogue)?,
    };
    let kind_name = match kind {
        Kind::Genesys => "genesys",
        Kind::Cxone => "cxone",
        Kind::Oauth2 => "oauth2",
    };
    let given = arguments.platform_name.as_deref().unwrap_or(kind_name);
    let platform_name: PlatformName =
        given.parse().map_err(|error| Failure::usage(format!("--platform-name: {error}")))?;
    let usual = format!("{platform_name}-prod");
    let question = Question { flag: "--credential", text: "Name of the credential", default: Some(&usual) };
    let credential = dialogue.value(arguments.credential.as_deref(), &question, parse_name::<CredentialName>)?;
    let by_name = credential.as_ref().and_then(|name| environment_of(name.as_str()));
    let question = Question { flag: "--environment", text: "Its environment, such as production", default: by_name };
    let environment = dialogue.optional(arguments.environment.as_deref(), &question, parse_name::<EnvironmentName>)?;
    if !dialogue.asks() && !arguments.secret_stdin && arguments.secret_file.is_none() && !arguments.secret_later {
        dialogue.lacks("--secret-stdin, --secret-file or --secret-later");
    }
    let (Some(platform), Some(credential)) = (platform, credential) else {
        dialogue.complete()?;
        return Err(Failure::bug("an answer is missing and was not told"));
    };
    let secret = credential.as_str().parse().map_err(|error| Failure::usage(format!("--credential: {error}")))?;
    let mut plan = Plan {
        platform,
        platform_name,
        credential,
        secret,
        environment,
        client_id: None,
        access_key_id: None,
        client: None,
        listen: arguments.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
    };
    ids(&mut plan, arguments, dialogue)?;
    plan.client = first_client(&plan, arguments, dialogue)?;
    dialogue.complete()?;
    Ok(plan)
}

fn kind(arguments: &InitArgs, dialogue: &mut Dialogue<'_>) -> Result<Kind, Failure> {
    if let Some(kind) = arguments.platform {
        return Ok(kind);
    }
    let implied = if arguments.area.is_some() || arguments.access_key_id.is_some() {
        Some("cxone")
    } else if arguments.token_url.is_some() || !arguments.scopes.is_empty() {
        Some("oauth2")
    } else if arguments.region.is_some() || arguments.login_url.is_some() {
        Some("genesys")
    } else {
        None
    };
    let question =
        Question { flag: "--platform", text: "Platform: genesys, cxone or oauth2", default: Some("genesys") };
    let found = dialogue.value(implied, &question, |text| match text.to_ascii_lowercase().as_str() {
        "genesys" | "genesys cloud" | "purecloud" => Ok(Kind::Genesys),
        "cxone" | "nice" | "nice cxone" | "incontact" => Ok(Kind::Cxone),
        "oauth2" | "oauth" | "oauth 2.0" => Ok(Kind::Oauth2),
        _ => Err("write genesys, cxone or oauth2".to_owned()),
    })?;
    Ok(found.unwrap_or(Kind::Genesys))
}

fn genesys(arguments: &InitArgs, dialogue: &mut Dialogue<'_>) -> Result<Option<Platform>, Failure> {
    let login_url = arguments.login_url.as_deref().map(|text| address("--login-url", text)).transpose()?;
    let api_url = arguments.api_url.as_deref().map(|text| address("--api-url", text)).transpose()?;
    if arguments.region.is_none()
        && let Some(login) = login_url
    {
        let api_url = Some(api_url.unwrap_or_else(|| login.clone()));
        return Ok(Some(Platform::Genesys { region: None, login_url: Some(login), api_url }));
    }
    let text = "Region, such as eu-central-1, mypurecloud.de or Frankfurt (? lists them)";
    let question = Question { flag: "--region", text, default: None };
    let found = dialogue.value(arguments.region.as_deref(), &question, |text| match text {
        "?" => Err(format!("the regions of Genesys Cloud:\n{}", region::list().trim_end())),
        "" => Err("? lists the regions".to_owned()),
        _ => region::find(text),
    })?;
    Ok(found.map(|region| Platform::Genesys { region: Some(region), login_url, api_url }))
}

fn cxone(arguments: &InitArgs, dialogue: &mut Dialogue<'_>) -> Result<Option<Platform>, Failure> {
    let api_url = arguments.api_url.as_deref().map(|text| address("--api-url", text)).transpose()?;
    let text = "Issuer (application and access key), or an area such as na1 (access key alone)";
    let question = Question { flag: "--issuer or --area", text, default: Some("https://cxone.niceincontact.com") };
    let given = arguments.issuer.as_deref().or(arguments.area.as_deref());
    dialogue.value(given, &question, |text| {
        if text.contains("://") {
            let issuer = address("the issuer", text).map_err(|failure| failure.detail().to_owned())?;
            return Ok(Platform::CxoneGlobal { issuer });
        }
        let word = !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !word {
            return Err("write an address such as https://cxone.niceincontact.com or an area such as na1".to_owned());
        }
        Ok(Platform::CxoneRegional { area: text.to_ascii_lowercase(), api_url: api_url.clone() })
    })
}

fn oauth2(arguments: &InitArgs, dialogue: &mut Dialogue<'_>) -> Result<Option<Platform>, Failure> {
    let parse = |text: &str| address("the address", text).map_err(|failure| failure.detail().to_owned());
    let issuer = arguments.issuer.as_deref().map(|text| address("--issuer", text)).transpose()?;
    let mut token_url = None;
    if issuer.is_none() {
        let question = Question { flag: "--token-url", text: "Token endpoint", default: None };
        token_url = dialogue.value(arguments.token_url.as_deref(), &question, parse)?;
    }
    let question = Question { flag: "--api-url", text: "Base address of the API", default: None };
    let api_url = dialogue.value(arguments.api_url.as_deref(), &question, parse)?;
    let scopes = arguments.scopes.clone();
    Ok(api_url.map(|api_url| Platform::Oauth2 { issuer, token_url, api_url, scopes }))
}

/// The ids that go with the secret. A whole document on standard input or in a file holds them itself.
fn ids(plan: &mut Plan, arguments: &InitArgs, dialogue: &mut Dialogue<'_>) -> Result<(), Failure> {
    let silent = !dialogue.asks();
    // An OAuth client of Genesys Cloud is a UUID (platform facts); what NICE hands out as ids looks random.
    let parse = if matches!(plan.platform, Platform::Genesys { .. }) { parse_genesys_id } else { parse_id };
    if plan.needs_client() {
        let question = Question { flag: "--client-id", text: "Client id (the platform's OAuth client)", default: None };
        plan.client_id = match &arguments.client_id {
            None if silent => None,
            given => dialogue.value(given.as_deref(), &question, parse)?,
        };
    }
    if plan.needs_access_key() {
        let question = Question { flag: "--access-key-id", text: "Access key id", default: None };
        plan.access_key_id = match &arguments.access_key_id {
            None if silent => None,
            given => dialogue.value(given.as_deref(), &question, parse_id)?,
        };
    }
    Ok(())
}

fn first_client(
    plan: &Plan,
    arguments: &InitArgs,
    dialogue: &mut Dialogue<'_>,
) -> Result<Option<FirstClient>, Failure> {
    let question =
        Question { flag: "--client", text: "First application that may log in here (empty for none)", default: None };
    let name = dialogue.optional(arguments.client.as_deref(), &question, parse_name::<ClientName>)?;
    let Some(name) = name else { return Ok(None) };
    let mut allow = Vec::new();
    for rule in &arguments.allow {
        allow.push(parse_rule(rule).map_err(|error| Failure::usage(format!("--allow: {error}")))?);
    }
    if dialogue.asks() && allow.is_empty() && !arguments.allow_all {
        let mut default = Some(plan.sample_rule());
        loop {
            let text = if allow.is_empty() { "A call it may make" } else { "Another one (empty when done)" };
            let question = Question { flag: "--allow", text, default };
            match dialogue.optional(None, &question, parse_rule)? {
                Some(rule) => allow.push(rule),
                None => break,
            }
            default = None;
        }
    }
    Ok(Some(FirstClient { name, allow, allow_all: arguments.allow_all }))
}

/// The value for the secret store, read and checked; none if it comes later.
pub(super) fn secret(arguments: &InitArgs, plan: &Plan) -> Result<Option<SecretBytes>, Failure> {
    if arguments.secret_later {
        return Ok(None);
    }
    let pairs = [
        (plan.client_id.as_deref(), "client_id", "client_secret", "Client secret"),
        (plan.access_key_id.as_deref(), "access_key_id", "access_key_secret", "Access key secret"),
    ];
    let given: Vec<_> =
        pairs.iter().filter_map(|(id, name, field, text)| Some(((*id)?, *name, *field, *text))).collect();
    let document = if arguments.secret_stdin || arguments.secret_file.is_some() {
        let value = input::raw(arguments.secret_file.as_deref())?;
        match given.as_slice() {
            _ if value.expose().trim_ascii_start().starts_with(b"{") => value,
            [(id, name, field, _)] => input::build(&[(name, id, field, input::line(value)?)]),
            [] => {
                return Err(Failure::usage("a secret without its id")
                    .hint("add --client-id (CXone's regional login: --access-key-id), or give a whole JSON document"));
            }
            _ => {
                return Err(Failure::usage("two ids need two secrets, and there is one input")
                    .hint("give a JSON document with client_id, client_secret, access_key_id and access_key_secret"));
            }
        }
    } else {
        let mut fields = Vec::new();
        for (id, name, field, text) in given {
            let Some(typed) = dialogue::secret(text)? else { return Ok(None) };
            fields.push((name, id, field, typed));
        }
        input::build(&fields)
    };
    complete(plan, &document)?;
    Ok(Some(document))
}

/// A document that lacks what the login needs would be refused at the first call, with less help.
fn complete(plan: &Plan, document: &SecretBytes) -> Result<(), Failure> {
    let parsed = CredentialDocument::parse(document).map_err(|error| {
        Failure::usage("the secret is not a credential document")
            .caused_by(&error)
            .hint("write {\"client_id\":\"...\",\"client_secret\":\"...\"}, or give --client-id and the secret alone")
    })?;
    let needed = [
        ("client_id", plan.needs_client(), parsed.client_id.is_some()),
        ("client_secret", plan.needs_client(), parsed.client_secret.is_some()),
        ("access_key_id", plan.needs_access_key(), parsed.access_key_id.is_some()),
        ("access_key_secret", plan.needs_access_key(), parsed.access_key_secret.is_some()),
    ];
    match needed.iter().find(|(_, needed, present)| *needed && !*present) {
        Some((field, ..)) => Err(Failure::usage(format!("the secret's document lacks {field}"))),
        None => Ok(()),
    }
}

/// The environment that a credential's name ends in.
fn environment_of(name: &str) -> Option<&'static str> {
    let last = name.rsplit(['-', '_', '.', '/']).next().unwrap_or_default();
    match last {
        "prod" | "production" => Some("production"),
        "staging" | "stage" => Some("staging"),
        "test" => Some("test"),
        "dev" | "development" => Some("development"),
        _ => None,
    }
}

fn parse_name<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn parse_id(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if plain { Ok(text.to_owned()) } else { Err("an id has 1 to 128 printable characters".to_owned()) }
}

/// An id, and not the secret in its place: what looks random is neither taken nor repeated.
fn parse_genesys_id(text: &str) -> Result<String, String> {
    let id = parse_id(text)?;
    if mask_words(&id) == id { Ok(id) } else { Err("this looks like a secret; an id is a UUID".to_owned()) }
}

fn parse_rule(text: &str) -> Result<String, String> {
    let rule = AllowRule(text.to_owned());
    match AllowList::parse(std::slice::from_ref(&rule), false, false) {
        Ok(_) => Ok(rule.0),
        Err(error) => Err(error.to_string()),
    }
}

/// An address as it was typed, once it is known to be one.
fn address(name: &str, text: &str) -> Result<String, Failure> {
    let text = text.trim().trim_end_matches('/');
    match Address::parse(text, PlainHttp::LoopbackOnly) {
        Ok(address) => Ok(address.text().to_owned()),
        Err(error) => Err(Failure::usage(format!("{name}: {error}"))),
    }
}
