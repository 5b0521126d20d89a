//! The claims of a token (RFC 7519 section 4.1, RFC 9068 section 2.2) and what a policy says to them.
//!
//! Where a claim is there in two forms, one counts: `scope` before `scp`, `client_id` before `azp`.

mod scope;
mod time;

use std::{sync::Arc, time::Duration};

use kh_core::{Confirmation, Identity, UnixMillis, identity::IdentityBuilder};

use crate::{
    Accepted, Policy, Reason, base64url,
    json::{Json, Number, Object},
    jws::TokenNames,
};

pub use scope::SCOPES_MAX;
pub(crate) use scope::scopes;
pub use time::NUMERIC_DATE_MAX;
pub(crate) use time::proof_times;

/// Most values of `aud`.
pub const AUDIENCES_MAX: usize = 64;

/// The claims as the token has them.
#[derive(Debug)]
pub(crate) struct Claims<'a> {
    all: Object<'a>,
}

impl<'a> Claims<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Reason> {
        let claims = Self { all: Object::parse(payload).ok_or(Reason::ClaimsInvalid)? };
        claims.text("iss")?;
        Ok(claims)
    }

    /// `iss`, which [`Claims::parse`] has found to be text if it is there.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.all.text("iss").ok().flatten()
    }

    /// What the claims say, if the policy takes them.
    pub(crate) fn identity(&self, policy: &Policy, now: UnixMillis) -> Result<Identity, Reason> {
        self.identity_of(self.accepted_issuer(policy)?, policy, now)
    }

    /// The same for an introspection's answer (RFC 7662 section 2.2): none where `active` is false. An answer without
    /// `iss` is of the policy's first issuer.
    pub(crate) fn introspected(&self, policy: &Policy, now: UnixMillis) -> Result<Option<Identity>, Reason> {
        let Some(Json::Bool(active)) = self.all.get("active") else { return Err(Reason::ClaimsInvalid) };
        if !active {
            return Ok(None);
        }
        let issuer = match (&policy.issuers, self.issuer()) {
            (Accepted::OneOf(issuers), None) => issuers.first().cloned().ok_or(Reason::IssuerMissing)?,
            _ => self.accepted_issuer(policy)?,
        };
        self.identity_of(issuer, policy, now).map(Some)
    }

    fn identity_of(&self, issuer: Arc<str>, policy: &Policy, now: UnixMillis) -> Result<Identity, Reason> {
        let mut identity = self.check_audience(policy, Identity::builder(issuer))?;
        identity = self.check_times(policy, now, identity)?;
        identity = self.check_names(policy, identity)?;
        for scope in scopes(self.all.get("scope"), self.all.get("scp"))? {
            identity = identity.scope(scope);
        }
        if let Some(confirmation) = self.confirmation()? {
            identity = identity.confirmation(confirmation);
        }
        for name in &policy.claims {
            identity = self.keep(name, identity);
        }
        identity.build().map_err(|_| Reason::ClaimsTooLarge)
    }

    /// What names the token, in the forms that [`Claims::identity`] reads.
    pub(crate) fn names(&self) -> TokenNames {
        let text = |name: &str| self.all.text(name).ok().flatten().map(str::to_owned);
        let time = |name: &str| self.all.get(name).and_then(|value| time::numeric_date(value, Duration::ZERO).ok());
        TokenNames {
            issuer: text("iss"),
            token_id: text("jti"),
            subject: text("sub"),
            client: text("client_id").or_else(|| text("azp")),
            issued_at: time("iat"),
            expires_at: time("exp"),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Reason> {
        self.all.text(name).map_err(|_| Reason::ClaimsInvalid)
    }

    fn accepted_issuer(&self, policy: &Policy) -> Result<Arc<str>, Reason> {
        let issuer = self.issuer();
        match (&policy.issuers, issuer) {
            (Accepted::Any, None) if policy.is_strict() => Err(Reason::IssuerMissing),
            (Accepted::Any, issuer) => Ok(issuer.unwrap_or_default().into()),
            (Accepted::OneOf(_), None) => Err(Reason::IssuerMissing),
            (accepted @ Accepted::OneOf(_), Some(issuer)) => {
                accepted.find(issuer).cloned().ok_or(Reason::IssuerRefused)
            }
        }
    }

    fn check_audience(&self, policy: &Policy, identity: IdentityBuilder) -> Result<IdentityBuilder, Reason> {
        let audiences = match self.all.get("aud") {
            None => Vec::new(),
            Some(Json::Text(one)) => vec![&**one],
            Some(list) => list.texts().filter(|list| list.len() <= AUDIENCES_MAX).ok_or(Reason::ClaimsInvalid)?,
        };
        if audiences.is_empty() && (policy.is_strict() || policy.audiences != Accepted::Any) {
            return Err(Reason::AudienceMissing);
        }
        let meant = |accepted: &Accepted| audiences.iter().any(|audience| accepted.find(audience).is_some());
        if policy.audiences != Accepted::Any && !meant(&policy.audiences) {
            return Err(Reason::AudienceRefused);
        }
        Ok(audiences.into_iter().fold(identity, IdentityBuilder::audience))
    }

    fn check_times(
        &self,
        policy: &Policy,
        now: UnixMillis,
        mut identity: IdentityBuilder,
    ) -> Result<IdentityBuilder, Reason> {
        let read = |name: &str, late| self.all.get(name).map(|value| time::numeric_date(value, late)).transpose();
        let (expiry, start) = (read("exp", Duration::ZERO)?, read("nbf", time::UP)?);
        let issued = read("iat", Duration::ZERO)?;
        if let Some(expiry) = expiry {
            // RFC 7519 section 4.1.4: on or after it, no more
            if now >= expiry.plus(policy.leeway) {
                return Err(Reason::Expired);
            }
            identity = identity.expires_at(expiry);
        } else if policy.expiry_needed || policy.is_strict() {
            return Err(Reason::ExpiryMissing);
        }
        if let Some(start) = start {
            if now.plus(policy.leeway) < start {
                return Err(Reason::NotYetValid);
            }
            identity = identity.not_before(start);
        }
        if let Some(issued) = issued {
            if now.plus(policy.leeway) < issued {
                return Err(Reason::IssuedInFuture);
            }
            if policy.age_max.is_some_and(|age| now.since(issued) > age.saturating_add(policy.leeway)) {
                return Err(Reason::TooOld);
            }
            identity = identity.issued_at(issued);
        } else if policy.age_max.is_some() || policy.is_strict() {
            return Err(Reason::IssuedAtMissing);
        }
        Ok(identity)
    }

    fn check_names(&self, policy: &Policy, mut identity: IdentityBuilder) -> Result<IdentityBuilder, Reason> {
        let needed = |there: bool, reason| if there || !policy.is_strict() { Ok(()) } else { Err(reason) };
        let (subject, token_id) = (self.text("sub")?, self.text("jti")?);
        let (client, authorized) = (self.text("client_id")?, self.text("azp")?);
        needed(subject.is_some(), Reason::SubjectMissing)?;
        needed(client.is_some(), Reason::ClientMissing)?;
        needed(token_id.is_some(), Reason::TokenIdMissing)?;
        if let Some(subject) = subject {
            identity = identity.subject(subject);
        }
        if let Some(client) = client.or(authorized) {
            identity = identity.client(client);
        }
        if let Some(token_id) = token_id {
            identity = identity.token_id(token_id);
        }
        Ok(identity)
    }

    /// `cnf` (RFC 7800). A binding that is not understood must not be ignored: the token is not meant to be a bearer's.
    fn confirmation(&self) -> Result<Option<Confirmation>, Reason> {
        let Some(claim) = self.all.get("cnf") else { return Ok(None) };
        let Json::Object(claim) = claim else { return Err(Reason::ClaimsInvalid) };
        let mut members = claim.members();
        let (Some((name, value)), None) = (members.next(), members.next()) else {
            return Err(Reason::ConfirmationUnsupported);
        };
        let hash = value.text().and_then(base64url::decode_sha256);
        match (name, hash) {
            ("x5t#S256", Some(hash)) => Ok(Some(Confirmation::X5tS256(hash))),
            ("jkt", Some(hash)) => Ok(Some(Confirmation::Jkt(hash))),
            _ => Err(Reason::ConfirmationUnsupported),
        }
    }

    fn keep(&self, name: &str, identity: IdentityBuilder) -> IdentityBuilder {
        match self.find(name) {
            Some(Json::Text(text)) => identity.claim_text(name, text),
            Some(Json::Bool(value)) => identity.claim_bool(name, *value),
            Some(Json::Number(Number::Negative(value))) => identity.claim_number(name, *value),
            Some(Json::Number(Number::Whole(value))) => match i64::try_from(*value) {
                Ok(value) => identity.claim_number(name, value),
                Err(_) => identity,
            },
            Some(list @ Json::List(_)) => match list.texts() {
                Some(texts) => identity.claim_list(name, texts),
                None => identity,
            },
            Some(Json::Null | Json::Object(_) | Json::Number(Number::Fraction(_))) | None => identity,
        }
    }

    /// The claim of this name; a name that begins with a slash is a JSON pointer (RFC 6901) through objects.
    fn find(&self, name: &str) -> Option<&Json<'a>> {
        let Some(path) = name.strip_prefix('/') else { return self.all.get(name) };
        let mut steps = path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
        let first = self.all.get(&steps.next()?)?;
        steps.try_fold(first, |at, step| match at {
            Json::Object(object) => object.get(&step),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => None,
        })
    }
}
