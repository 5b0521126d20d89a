//! Reads the `[inbound.NAME]` sections: protected APIs, their routes, and what the API is told.
//!
//! Invariant: every route says what it needs; one that takes requests without a token says that in so many words.

use std::collections::BTreeMap;

use axum::http::HeaderName;
use kh_gateway::inbound::IdentityField;
use kh_net::client_address::TrustedProxies;
use kh_platform::{Address, PlainHttp};
use kh_policy::{ClaimTest, Condition, Requirement, RouteRule, RouteTable, Value, Word, genesys::Basis};

use super::{
    issuers::{Issuers, texts},
    keys::{inbound as tables, words},
    model::{
        AddressHeader, ClientsConfig, ConditionConfig, ConditionTest, IdentityHeaderConfig, InboundConfig,
        InboundTlsConfig, ListenAddress, Need, RouteConfig, ScalarConfig,
    },
    network,
    reader::{Located, Section},
};

const BASES: [(&str, Basis); 3] = [
    (Basis::Permissions.as_str(), Basis::Permissions),
    (Basis::Scopes.as_str(), Basis::Scopes),
    (Basis::Both.as_str(), Basis::Both),
];

const NEEDS: [(&str, Need); 2] = [("optional", Need::Optional), ("required", Need::Required)];

pub(super) const ADDRESS_HEADERS: [(&str, AddressHeader); 3] = [
    ("forwarded", AddressHeader::Forwarded),
    ("x-forwarded-for", AddressHeader::XForwardedFor),
    ("x-real-ip", AddressHeader::XRealIp),
];

/// What a header can tell beside a claim.
type Field = fn() -> IdentityField;

const FIELDS: [(&str, Field); 6] = [
    ("subject", || IdentityField::Subject),
    ("client", || IdentityField::Client),
    ("issuer", || IdentityField::Issuer),
    ("token_id", || IdentityField::TokenId),
    ("scopes", || IdentityField::Scopes),
    ("permissions", || IdentityField::Permissions),
];

/// Names are labels of metrics and the realm of challenges.
pub(super) fn check_name(root: &Section<'_>, name: &Located<&str>) {
    if name.value.parse::<kh_core::StoreName>().is_err() {
        let hint = "use up to 64 lower-case letters, digits, '-' and '_'";
        root.error(name.span.clone(), "this is no name for such a section", hint);
    }
}

/// Reads them all.
pub(super) fn read(root: &Section<'_>, issuers: &Issuers) -> BTreeMap<String, InboundConfig> {
    let mut all = BTreeMap::new();
    for (name, section) in root.named_sections("inbound") {
        check_name(root, &name);
        let api = api(&section, issuers);
        section.finish();
        all.extend(api.map(|api| (name.value.to_owned(), api)));
    }
    all
}

fn api(section: &Section<'_>, issuers: &Issuers) -> Option<InboundConfig> {
    section.keeps(&tables::INBOUND);
    let listen = section.listeners("listen");
    if let Some(place) = section.place("listen").filter(|_| listen.as_ref().is_some_and(Vec::is_empty)) {
        section.error(place, "the API is listened for nowhere", "listen = [\"127.0.0.1:8090\"]");
    }
    let upstream = upstream(section);
    let known: Vec<String> = issuers.keys().cloned().collect();
    let taken = section.names("issuers", "issuer", &known).unwrap_or_default();
    let routes: Vec<_> = section.tables("route").into_iter().map(|route| read_route(route, &taken)).collect();
    let identity_headers: Vec<_> = section.tables("identity_header").into_iter().map(identity_header).collect();
    let config = InboundConfig {
        audiences: texts(section, "audiences"),
        operations: section.choice("operations", &BASES).map(|found| found.value),
        pass_authorization: section.flag("pass_authorization").unwrap_or(false),
        preserve_host: section.flag("preserve_host").unwrap_or(false),
        trusted_proxies: networks(section, "trusted_proxies"),
        client_address: section.choice("client_address", &ADDRESS_HEADERS).map(|found| found.value),
        proxy_protocol: networks(section, "proxy_protocol"),
        extra_ca: section.path("extra_ca").map(|found| found.value),
        client: network::client_certificate(section),
        binding: need(section, "binding"),
        dpop_nonce: section.flag("dpop_nonce").unwrap_or(false),
        addresses: addresses(section),
        tls: tls(section),
        identity_headers: identity_headers.into_iter().flatten().collect(),
        routes,
        listen: listen?,
        upstream: upstream?,
        issuers: taken,
    };
    check(section, &config, issuers);
    Some(config)
}

/// What concerns the whole of an API.
fn check(section: &Section<'_>, config: &InboundConfig, issuers: &Issuers) {
    let rules: Result<Vec<_>, _> = config.routes.iter().map(RouteConfig::rules).collect();
    if let Ok(rules) = rules
        && let Err(error) = RouteTable::new(rules.into_iter().flatten().collect())
    {
        section.error(section.span.clone(), error.to_string(), "take one of them out, or give it another path");
    }
    if config.issuers.is_empty() && section.place("issuers").is_some() && known_all(section, issuers) {
        section.error(
            section.span.clone(),
            "the API takes no issuer's tokens",
            "issuers = [\"NAME\"] of an [issuer.NAME]",
        );
    }
    if config.routes.is_empty() && config.operations.is_none() && section.place("route").is_none() {
        let hint = "add a [[inbound.NAME.route]] with match and scopes, or any_token = true";
        section.warning(section.span.clone(), "no route is named, so every request is refused", hint);
    }
    if config.tls.is_none() && section.place("tls").is_none() && config.listen.iter().any(|address| !is_local(address))
    {
        let hint = "add [inbound.NAME.tls] with cert and key, or listen on 127.0.0.1";
        let span = section.place("listen").unwrap_or_else(|| section.span.clone());
        section.warning(span, "callers' tokens come over plain http from other machines", hint);
    }
    let mut names: Vec<String> = config.identity_headers.iter().map(|told| told.name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    if let Some([twice, _]) = names.windows(2).find(|pair| matches!(pair, [one, other] if one == other)) {
        let hint = "a header tells one thing: take one of them out";
        section.error(section.span.clone(), format!("two identity headers are called {twice}"), hint);
    }
    if config.audiences.is_empty() {
        let takes_any = |name: &&String| {
            let issuer = issuers.get(*name).and_then(Option::as_ref);
            issuer.is_some_and(|issuer| issuer.audiences.is_empty() && issuer.detail.kind() != "genesys")
        };
        let open: Vec<&str> = config.issuers.iter().filter(takes_any).map(String::as_str).collect();
        if !open.is_empty() {
            let hint = "write audiences = [\"...\"] here, as the issuer names this API in `aud`";
            let problem = format!("tokens that {} made for other APIs are taken here as well", open.join(", "));
            section.warning(section.span.clone(), problem, hint);
        }
    }
}

/// Whether every name of `issuers` is one: else that is the mistake.
fn known_all(section: &Section<'_>, issuers: &Issuers) -> bool {
    let names = section.texts("issuers").unwrap_or_default();
    names.iter().all(|name| issuers.contains_key(name.value))
}

fn is_local(address: &ListenAddress) -> bool {
    address.is_local()
}

fn upstream(section: &Section<'_>) -> Option<Address> {
    let hint = "write the API's base address, such as \"http://127.0.0.1:3000\"";
    let found = section.parsed("upstream", hint, |text| Address::parse(text, PlainHttp::Allowed))?;
    if !found.value.is_https() && !found.value.is_loopback() {
        let problem = "requests and what they tell of callers go to the API in the clear";
        section.warning(found.span, problem, "use https, or an API on this machine");
    }
    Some(found.value)
}

pub(super) fn networks(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let found = section.words(key, &words::NETWORK).unwrap_or_default();
    let listed: Vec<&str> = found.iter().map(|item| item.value.as_str()).collect();
    if let Err((at, error)) = TrustedProxies::parse(&listed) {
        let span = found.get(at).map_or_else(|| section.span.clone(), |item| item.span.clone());
        section.error(span, format!("{key}: {error}"), words::NETWORK.hint);
    }
    found.into_iter().map(|found| found.value).collect()
}

fn tls(api: &Section<'_>) -> Option<InboundTlsConfig> {
    let section = api.section("tls")?;
    section.keeps(&tables::TLS);
    let cert = section.path("cert").map(|found| found.value);
    let key = section.path("key").map(|found| found.value);
    let clients = clients(&section);
    section.finish();
    Some(InboundTlsConfig { cert: cert?, key: key?, clients })
}

/// Whose client certificates a listener takes.
pub(super) fn clients(section: &Section<'_>) -> ClientsConfig {
    ClientsConfig {
        client_ca: section.path("client_ca").map(|found| found.value),
        client_auth: need(section, "client_auth"),
        client_names: texts(section, "client_names"),
    }
}

fn need(section: &Section<'_>, key: &'static str) -> Need {
    section.choice(key, &NEEDS).map(|found| found.value).unwrap_or_default()
}

/// Addresses of nothing but scheme, host and port.
fn addresses(section: &Section<'_>) -> Vec<String> {
    let found = section.words("addresses", &words::ORIGIN).unwrap_or_default();
    for item in found.iter().filter(|item| kh_verify::dpop::bare_origin(&item.value).is_none()) {
        section.error(item.span.clone(), format!("{} is no address of callers", item.value), words::ORIGIN.hint);
    }
    found.into_iter().map(|item| item.value).collect()
}

fn identity_header(section: Section<'_>) -> Option<IdentityHeaderConfig> {
    section.keeps(&tables::IDENTITY_HEADER);
    let name = section.word("name", &words::HEADER);
    let field = section.choice("field", &FIELDS).map(|found| (found.value)());
    let claim = section.word("claim", &words::CLAIM).map(|name| IdentityField::Claim(name.into()));
    if let Some(text) = &name {
        let parsed = text.parse::<HeaderName>().ok();
        if parsed.is_none_or(|parsed| !kh_gateway::inbound::may_tell(&parsed)) {
            let place = section.place("name").unwrap_or_else(|| section.span.clone());
            let hint = "take a name of your own, such as \"X-Subject\"";
            section.error(place, "HTTP or keyholder needs this header for something else", hint);
        }
    }
    section.finish();
    Some(IdentityHeaderConfig { name: name?, tells: field.or(claim)? })
}

fn read_route(section: Section<'_>, taken: &[String]) -> RouteConfig {
    section.keeps(&tables::ROUTE);
    let plain = |key, word| -> Vec<String> {
        section.words(key, word).unwrap_or_default().into_iter().map(|found| found.value).collect()
    };
    let requests = section.words("match", &words::REQUEST);
    let conditions: Vec<_> = section.tables("condition").into_iter().map(condition).collect();
    let config = RouteConfig {
        name: section.word("name", &words::ROUTE_NAME),
        hosts: plain("hosts", &words::HOST),
        issuers: section.names("issuers", "issuer", taken).unwrap_or_default(),
        public: section.flag("public").unwrap_or(false),
        any_token: section.flag("any_token").unwrap_or(false),
        scopes: plain("scopes", &words::GRANT),
        any_scope: plain("any_scope", &words::GRANT),
        permissions: plain("permissions", &words::GRANT),
        any_permission: plain("any_permission", &words::GRANT),
        allow_basic: section.flag("allow_basic").unwrap_or(false),
        conditions: conditions.into_iter().flatten().collect(),
        binding: need(&section, "binding"),
        requests: requests.iter().flatten().map(|found| found.value.clone()).collect(),
    };
    // a route that names none of the ways was told so already
    let says = tables::ROUTE.any_of.iter().copied().flatten().any(|key| section.place(key).is_some());
    if let Err(problem) = config.rules()
        && requests.is_some()
        && says
    {
        let place = section.place("match").unwrap_or_else(|| section.span.clone());
        section.error(
            place,
            problem,
            "a route has `match`, and says what it needs: any_token, scopes, permissions or public",
        );
    }
    if config.public && config.requests.iter().any(|request| request.ends_with("**")) {
        let place = section.place("public").unwrap_or_else(|| section.span.clone());
        let hint = "name each path that needs no token";
        section.warning(place, "every request under this path is taken without a token", hint);
    }
    if config.allow_basic {
        let place = section.place("allow_basic").unwrap_or_else(|| section.span.clone());
        let problem =
            "a password comes with each request: it has no expiry and no scope, and nobody here can revoke it";
        section.warning(place, problem, "let the callers come with tokens, such as those of `keyholder client`");
    }
    section.finish();
    config
}

fn condition(section: Section<'_>) -> Option<ConditionConfig> {
    section.keeps(&tables::CONDITION);
    let claim = section.word("claim", &words::CLAIM);
    let equals = section.scalar("equals").map(ConditionTest::Equals);
    let one_of = section.scalars("one_of").map(ConditionTest::OneOf);
    let contains = section.scalar("contains").map(ConditionTest::Contains);
    section.finish();
    Some(ConditionConfig { claim: claim?, test: equals.or(one_of).or(contains)? })
}

impl RouteConfig {
    /// The routes that it stands for, one for each `match`.
    pub(crate) fn rules(&self) -> Result<Vec<RouteRule>, String> {
        let requirement = self.requirement()?;
        if self.requests.is_empty() {
            return Err("match lists nothing".to_owned());
        }
        let hosts: Vec<&str> = self.hosts.iter().map(String::as_str).collect();
        let issuers: Vec<&str> = self.issuers.iter().map(String::as_str).collect();
        let rule = |request: &String| {
            let rule = RouteRule::new(request, requirement.clone()).map_err(|error| format!("{request}: {error}"))?;
            let rule = rule.on_hosts(&hosts).map_err(|error| error.to_string())?.from_issuers(&issuers);
            let rule = if self.allow_basic { rule.allowing_basic() } else { rule };
            // the default name says nothing of hosts, and names must differ
            let name = match (&self.name, self.requests.len(), hosts.first()) {
                (Some(name), 1, _) => name.clone(),
                (Some(name), _, _) => format!("{name} {request}"),
                (None, _, Some(host)) => format!("{host} {request}"),
                (None, _, None) => return Ok(rule),
            };
            rule.named(&name).map_err(|error| error.to_string())
        };
        self.requests.iter().map(rule).collect()
    }

    fn requirement(&self) -> Result<Requirement, String> {
        let told = |error: kh_policy::RequirementError| error.to_string();
        let words = |of: &[String], word: fn(String) -> Result<Word, kh_policy::RequirementError>| {
            of.iter().map(|text| word(text.clone())).collect::<Result<Vec<_>, _>>().map_err(told)
        };
        let scope: fn(String) -> Result<Word, _> = |text| Word::scope(text);
        let permission: fn(String) -> Result<Word, _> = |text| Word::permission(text);
        let all = [words(&self.scopes, scope)?, words(&self.permissions, permission)?].concat();
        let any = [words(&self.any_scope, scope)?, words(&self.any_permission, permission)?].concat();
        let conditions = self.conditions.iter().map(ConditionConfig::condition).collect::<Result<Vec<_>, _>>();
        let conditions = conditions.map_err(told)?;
        let sets: Vec<Vec<Word>> = if any.is_empty() {
            vec![all]
        } else {
            any.into_iter().map(|one| [all.as_slice(), &[one]].concat()).collect()
        };
        let needs_nothing = sets.iter().all(Vec::is_empty);
        let requirement = match (self.public, self.any_token) {
            (true, false) if needs_nothing => Requirement::Public,
            (false, true) if needs_nothing => Requirement::any_token(),
            (false, false) if !needs_nothing => Requirement::any_of(sets).map_err(told)?,
            (false, false) => return Err("the route does not say what it needs".to_owned()),
            _ => return Err("the route says two things of what it needs".to_owned()),
        };
        requirement.with_conditions(conditions).map_err(told)
    }
}

impl ConditionConfig {
    fn condition(&self) -> Result<Condition, kh_policy::RequirementError> {
        let value = |scalar: &ScalarConfig| match scalar {
            ScalarConfig::Text(text) => Value::Text(text.as_str().into()),
            ScalarConfig::Number(number) => Value::Number(*number),
            ScalarConfig::Flag(flag) => Value::Bool(*flag),
        };
        let test = match &self.test {
            ConditionTest::Equals(wanted) => ClaimTest::Equals(value(wanted)),
            ConditionTest::OneOf(wanted) => ClaimTest::OneOf(wanted.iter().map(value).collect()),
            ConditionTest::Contains(wanted) => ClaimTest::Contains(value(wanted)),
        };
        Condition::new(&self.claim, test)
    }
}
