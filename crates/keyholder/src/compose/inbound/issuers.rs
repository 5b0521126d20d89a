//! The issuers of the configuration, as the verifier asks them.
//!
//! Invariants: everything that can be wrong is found before a running verifier is touched; an issuer's connections
//! reach the public internet alone unless its section says otherwise; two forms of one section that are told by the
//! same digest verify alike.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use kh_broker::Broker;
use kh_core::{
    Clock, Code, CredentialName, SecretString, Sha256,
    port::{BoxFuture, KeyDocument, KeySource, RemoteError, SecretSource, inbound::OwnToken},
};
use kh_inbound::{AnswerRules, Bounds, FileKeys, IssuerSpec, LIFE_MAX, MAX_AGE, Trust};
use kh_issuer::{Issuer, OwnTokens, SigningKeys};
use kh_net::{Egress, Reach, Settings, SystemRoots};
use kh_platform::{
    Address, HttpClient, PlainHttp,
    inbound::{GenesysRoles, GenesysTokens, Introspection, IntrospectionAt, IntrospectionSettings, KeysAt, RemoteKeys},
};
use kh_verify::{Accepted, Algorithms, KeySet, Policy, key::Symmetric, policy::Profile};

use super::super::{egress::inbound_egress, endpoints::http, tls::read_pem};
use crate::{
    cli::Loaded,
    config::{
        EndpointConfig, IssuerWay, KeysConfig, OWN_OPAQUE, PlatformDetail, TokenType, TrustDetail, TrustedIssuerConfig,
    },
    output::Failure,
};

/// What tells the verifier's issuer of keyholder's own opaque tokens from that of its JWTs.
const OPAQUE: &str = " (opaque)";

/// The section that an issuer of the verifier was made of.
pub(super) fn section_of(name: &str) -> &str {
    name.strip_suffix(OPAQUE).unwrap_or(name)
}

/// How keyholder's own opaque tokens begin.
const OWN_PREFIX: &str = "kht_";

/// What a running keyholder has that issuers are asked through.
#[derive(Clone)]
pub(crate) struct Sides {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) signing_keys: Option<Arc<SigningKeys>>,
    pub(crate) secrets: Arc<dyn SecretSource>,
}

/// One section with its way out.
pub(crate) struct PreparedIssuer {
    pub(super) name: String,
    config: TrustedIssuerConfig,
    egress: Option<Arc<Egress>>,
    /// Where its keys are, if in a file.
    key_file: Option<PathBuf>,
    /// Where Genesys Cloud's API is, and what its identities have as `iss`.
    genesys: Option<(Address, Arc<str>)>,
    /// `iss` of keyholder's own JWTs.
    own: Option<Arc<str>>,
    /// Claims that routes and headers want.
    claims: Vec<String>,
    /// Permissions that routes can ask for.
    vocabulary: Vec<String>,
    /// Of everything that it is made of.
    pub(super) digest: Sha256,
}

/// What the APIs want to know of their callers.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) claims: Vec<String>,
    pub(super) permissions: Vec<String>,
}

/// Reads what the sections name: authorities' files, key files.
pub(super) fn prepare(loaded: &Loaded, system: &SystemRoots, wanted: &Wanted) -> Result<Vec<PreparedIssuer>, Failure> {
    loaded.config.issuers.iter().map(|(name, config)| of_section(name, config, loaded, system, wanted)).collect()
}

/// Those of the sections that can be read, and what is wrong with the others, by section.
pub(super) fn tried(
    loaded: &Loaded,
    system: &SystemRoots,
    wanted: &Wanted,
) -> (Vec<PreparedIssuer>, Vec<(String, Failure)>) {
    let (mut prepared, mut broken) = (Vec::new(), Vec::new());
    for (name, config) in &loaded.config.issuers {
        match of_section(name, config, loaded, system, wanted) {
            Ok(issuer) => prepared.push(issuer),
            Err(failure) => broken.push((format!("[issuer.{name}]"), failure)),
        }
    }
    (prepared, broken)
}

fn of_section(
    name: &str,
    config: &TrustedIssuerConfig,
    loaded: &Loaded,
    system: &SystemRoots,
    wanted: &Wanted,
) -> Result<PreparedIssuer, Failure> {
    let key_file = match &config.detail {
        TrustDetail::Jwks { keys: KeysConfig::JwksFile(path), .. } => Some(loaded.paths.resolve(path)),
        _ => None,
    };
    if let Some(path) = &key_file {
        check_keys(path, &format!("jwks_file of [issuer.{name}] names a file with a JWK Set (RFC 7517)"))?;
    }
    let egress = match &config.detail {
        TrustDetail::Jwks { keys: KeysConfig::JwksUrl(_) | KeysConfig::Discover(_), .. }
        | TrustDetail::Introspection { .. } => Some(way(name, &config.way, loaded, system)?),
        TrustDetail::Genesys { platform, .. } => {
            let section = loaded.config.platforms.get(platform);
            let missing = || Failure::bug("an issuer names a platform that the reader let through and is not there");
            Some(Arc::new(inbound_egress(platform, section.ok_or_else(missing)?, loaded, system)?))
        }
        TrustDetail::Jwks { keys: KeysConfig::JwksFile(_), .. } | TrustDetail::Keyholder {} => None,
    };
    let genesys: Option<(Address, Arc<str>)> = match &config.detail {
        TrustDetail::Genesys { platform, .. } => loaded.config.platforms.get(platform).and_then(|platform| {
            let PlatformDetail::Genesys { api_url, login_url, .. } = &platform.detail else { return None };
            Some((api_url.clone(), Arc::from(login_url.text())))
        }),
        _ => None,
    };
    let own = match &config.detail {
        TrustDetail::Keyholder {} => loaded.config.token_endpoint.issuer.as_ref().map(kh_issuer::IssuerId::shared),
        _ => None,
    };
    let of_egress = egress.as_ref().map(|egress| egress.digest().to_hex());
    // the section names its platform alone
    let of_genesys = genesys.as_ref().map(|(api, iss)| (api.text(), &**iss));
    let asks_roles = matches!(config.detail, TrustDetail::Genesys { .. });
    let vocabulary = if asks_roles { wanted.permissions.clone() } else { Vec::new() };
    let outside = (of_egress, of_genesys, own.as_deref());
    let parts = serde_json::to_vec(&(name, config, &key_file, outside, &wanted.claims, &vocabulary));
    let digest = Sha256::of(&parts.map_err(|error| Failure::bug("an issuer cannot be told").caused_by(&error))?);
    let (name, config, claims) = (name.to_owned(), config.clone(), wanted.claims.clone());
    Ok(PreparedIssuer { name, config, egress, key_file, genesys, own, claims, vocabulary, digest })
}

/// The way to an issuer: as to a secret store, and to public addresses alone.
fn way(name: &str, way: &IssuerWay, loaded: &Loaded, system: &SystemRoots) -> Result<Arc<Egress>, Failure> {
    let bundle = way.extra_ca.as_ref().map(|path| loaded.paths.resolve(path));
    let extra_ca = bundle.iter().map(|path| read_pem(path)).collect::<Result<Vec<_>, _>>()?;
    let (proxy, source) = super::super::egress::common_way(loaded)?;
    let egress = Egress::new(Settings { extra_ca, identity: None, proxy, source }, system).map_err(|error| {
        Failure::of(Code::CONFIG_INVALID, &error).hint(format!("see [issuer.{name}] in keyholder.toml"))
    })?;
    let reach = if way.private_network { Reach::Anywhere } else { Reach::Public };
    Ok(Arc::new(egress.with_reach(reach)))
}

/// What is wrong with a key file, in more words than a refused token would get.
pub(super) fn check_keys(path: &Path, hint: &str) -> Result<(), Failure> {
    let unusable = |problem: String| Failure::new(Code::CONFIG_INVALID, problem).hint(hint);
    let Some(document) = FileKeys::new(path).at_start() else { return Ok(()) };
    let document = document.map_err(|error| unusable(error.reason))?;
    KeySet::parse(&document.bytes, Symmetric::Refused)
        .map(drop)
        .map_err(|error| unusable(format!("{} is no key set: {error}", path.display())))
}

impl PreparedIssuer {
    /// How its tokens are verified, as the configuration says it.
    pub(super) fn kind(&self) -> &'static str {
        self.config.detail.kind()
    }

    /// The values of `iss` of its tokens.
    pub(super) fn iss(&self) -> Vec<Arc<str>> {
        match &self.config.detail {
            TrustDetail::Jwks { iss, .. } | TrustDetail::Introspection { iss, .. } => {
                iss.iter().map(|iss| iss.as_str().into()).collect()
            }
            TrustDetail::Genesys { .. } => self.genesys.iter().map(|(_, iss)| Arc::clone(iss)).collect(),
            TrustDetail::Keyholder {} => self.own.iter().cloned().chain([OWN_OPAQUE.into()]).collect(),
        }
    }

    /// Where its keys come from; none for what has no key set of its own.
    pub(super) fn key_source(&self, clock: &Arc<dyn Clock>) -> Result<Option<Arc<dyn KeySource>>, Failure> {
        let TrustDetail::Jwks { keys, .. } = &self.config.detail else { return Ok(None) };
        let at = match keys {
            KeysConfig::JwksFile(_) => {
                let path = self.key_file.clone().ok_or_else(unprepared)?;
                return Ok(Some(Arc::new(FileKeys::new(path))));
            }
            KeysConfig::JwksUrl(url) => {
                KeysAt::url(url, PlainHttp::LoopbackOnly).map_err(|error| Failure::of(Code::CONFIG_INVALID, &error))?
            }
            KeysConfig::Discover(issuer) => KeysAt::Issuer(issuer.clone()),
        };
        Ok(Some(Arc::new(RemoteKeys::new(self.http(clock)?, at))))
    }

    /// Its introspection endpoint, if it is asked that way.
    pub(super) fn introspection(
        &self,
        clock: &Arc<dyn Clock>,
        secrets: &Arc<dyn SecretSource>,
    ) -> Result<Option<Introspection>, Failure> {
        let TrustDetail::Introspection { at, secret, auth_method, .. } = &self.config.detail else { return Ok(None) };
        let at = match at {
            EndpointConfig::IntrospectionUrl(url) => match KeysAt::url(url, PlainHttp::LoopbackOnly) {
                Ok(KeysAt::Url(url)) => IntrospectionAt::Url(url),
                Ok(KeysAt::Issuer(issuer)) => IntrospectionAt::Issuer(issuer),
                Err(error) => return Err(Failure::of(Code::CONFIG_INVALID, &error)),
            },
            EndpointConfig::Discover(issuer) => IntrospectionAt::Issuer(issuer.clone()),
        };
        let settings = IntrospectionSettings {
            at,
            client_auth: *auth_method,
            credential: secret.clone(),
            issuers: self.iss(),
            claims: self.claims.clone(),
        };
        Ok(Some(Introspection::new(self.http(clock)?, settings, Arc::clone(secrets))))
    }

    fn http(&self, clock: &Arc<dyn Clock>) -> Result<HttpClient, Failure> {
        Ok(http(self.egress.as_ref().ok_or_else(unprepared)?, clock))
    }

    /// What the verifier is told: one issuer, or two for keyholder itself, whose JWTs and opaque tokens are verified in
    /// different ways.
    pub(super) fn specs(&self, sides: &Sides) -> Result<Vec<IssuerSpec>, Failure> {
        let (life_max, trust) = match &self.config.detail {
            TrustDetail::Jwks { keys, max_life, .. } => {
                let source = self.key_source(&sides.clock)?.ok_or_else(unprepared)?;
                let bounds = if matches!(keys, KeysConfig::JwksFile(_)) { Bounds::FILE } else { Bounds::REMOTE };
                (Some(max_life.unwrap_or(LIFE_MAX)), Trust::Keys { source, bounds, policy: self.policy() })
            }
            TrustDetail::Introspection { token_prefix, max_age, max_life, .. } => {
                let authority = self.introspection(&sides.clock, &sides.secrets)?.ok_or_else(unprepared)?;
                let rules = self.rules(token_prefix.clone(), *max_age, *max_life);
                (Some(max_life.unwrap_or(LIFE_MAX)), Trust::Authority { authority: Arc::new(authority), rules })
            }
            TrustDetail::Genesys { organization, credential, max_age, max_life, .. } => {
                let (api, iss) = self.genesys.clone().ok_or_else(unprepared)?;
                let http = self.http(&sides.clock)?;
                let token: Arc<dyn OwnToken> =
                    Arc::new(OfBroker { broker: Arc::clone(&sides.broker), credential: credential.clone() });
                let roles = GenesysRoles::new(http.clone(), api.clone(), token, self.vocabulary.iter().cloned());
                let authority = GenesysTokens::new(http, api, iss, organization.clone(), roles);
                let rules = self.rules(None, *max_age, *max_life);
                (*max_life, Trust::Authority { authority: Arc::new(authority), rules })
            }
            TrustDetail::Keyholder {} => return Ok(self.own_specs(sides)),
        };
        Ok(vec![self.spec(self.iss(), life_max, trust)])
    }

    fn own_specs(&self, sides: &Sides) -> Vec<IssuerSpec> {
        let mut all = vec![own_opaque(&self.name, self.config.audiences.clone(), &sides.issuer)];
        if let (Some(iss), Some(keys)) = (&self.own, &sides.signing_keys) {
            let accepted = Accepted::OneOf(vec![Arc::clone(iss)]);
            let policy = Policy::new(accepted, self.audiences()).with_profile(Profile::AccessToken);
            let policy = policy.with_claims(self.claims.iter().map(String::as_str));
            let source = Arc::new(OwnKeys(Arc::clone(keys)));
            let trust = Trust::Keys { source, bounds: Bounds::FILE, policy };
            all.push(self.spec(vec![Arc::clone(iss)], Some(LIFE_MAX), trust));
        }
        all
    }

    fn spec(&self, issuers: Vec<Arc<str>>, life_max: Option<std::time::Duration>, trust: Trust) -> IssuerSpec {
        IssuerSpec { name: self.name.as_str().into(), issuers, life_max, trust }
    }

    fn audiences(&self) -> Accepted {
        match self.config.audiences.as_slice() {
            [] => Accepted::Any,
            some => Accepted::OneOf(some.iter().map(|audience| audience.as_str().into()).collect()),
        }
    }

    fn policy(&self) -> Policy {
        let mut policy = Policy::new(Accepted::OneOf(self.iss()), self.audiences())
            .with_claims(self.claims.iter().map(String::as_str));
        if let Some(leeway) = self.config.leeway {
            policy = policy.with_leeway(leeway);
        }
        let TrustDetail::Jwks { algorithms, typ, max_token_age, .. } = &self.config.detail else { return policy };
        if !algorithms.is_empty() {
            let list: Vec<_> = algorithms.iter().filter_map(|name| kh_verify::Algorithm::parse(name)).collect();
            policy = policy.with_algorithms(Algorithms::of(&list));
        }
        if *typ == TokenType::AccessToken {
            policy = policy.with_profile(Profile::AccessToken);
        }
        match max_token_age {
            Some(age) => policy.with_age_max(*age),
            None => policy,
        }
    }

    fn rules(
        &self,
        prefix: Option<String>,
        max_age: Option<std::time::Duration>,
        max_life: Option<std::time::Duration>,
    ) -> AnswerRules {
        let usual = AnswerRules::default();
        AnswerRules {
            prefix,
            audiences: self.config.audiences.clone(),
            leeway: self.config.leeway.unwrap_or(usual.leeway),
            max_age: max_age.unwrap_or(MAX_AGE),
            untold_life: max_life,
            ..usual
        }
    }
}

/// keyholder's own opaque tokens. A revocation is remembered for longer than the longest of them lives, so none is refused
/// for its life.
fn own_opaque(name: &str, audiences: Vec<String>, issuer: &Arc<Issuer>) -> IssuerSpec {
    let iss: Arc<str> = OWN_OPAQUE.into();
    let rules = AnswerRules { audiences, ..AnswerRules::in_process(OWN_PREFIX) };
    let authority = Arc::new(OwnTokens::new(Arc::clone(issuer), Arc::clone(&iss)));
    let trust = Trust::Authority { authority, rules };
    IssuerSpec { name: format!("{name}{OPAQUE}").into(), issuers: vec![iss], life_max: None, trust }
}

fn unprepared() -> Failure {
    Failure::bug("an issuer was prepared without what it is asked by")
}

/// keyholder's own signing keys, without a way through the network.
struct OwnKeys(Arc<SigningKeys>);

impl OwnKeys {
    fn document(&self) -> KeyDocument {
        KeyDocument { bytes: self.0.key_set().into_bytes(), fresh_for: None }
    }
}

impl KeySource for OwnKeys {
    fn fetch(&self) -> BoxFuture<'_, Result<KeyDocument, RemoteError>> {
        Box::pin(async { Ok(self.document()) })
    }

    fn at_start(&self) -> Option<Result<KeyDocument, RemoteError>> {
        Some(Ok(self.document()))
    }
}

/// The token of a credential, as the broker keeps it.
struct OfBroker {
    broker: Arc<Broker>,
    credential: CredentialName,
}

/// What the reading of a few roles needs at most.
const ROLES_TAKE: std::time::Duration = std::time::Duration::from_mins(1);

impl OwnToken for OfBroker {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, RemoteError>> {
        Box::pin(async {
            let missing = || RemoteError::new(format!("there is no credential {}", self.credential));
            let credential = self.broker.credential(&self.credential).ok_or_else(missing)?;
            let lease = credential.lease(ROLES_TAKE).await.map_err(|error| RemoteError::new(error.to_string()))?;
            Ok(SecretString::copied(lease.token().expose()))
        })
    }

    fn refused(&self, token: &SecretString) {
        if let Some(credential) = self.broker.credential(&self.credential) {
            credential.invalidate(Sha256::of(token.expose().as_bytes()));
        }
    }
}

/// The digests by name: what is the same in both verifies alike.
pub(super) fn digests(issuers: &[PreparedIssuer]) -> BTreeMap<String, Sha256> {
    issuers.iter().map(|issuer| (issuer.name.clone(), issuer.digest)).collect()
}

#[cfg(test)]
mod tests;
