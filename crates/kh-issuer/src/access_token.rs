//! JWT access tokens (RFC 9068): made for a client, and read back when somebody gives one to keyholder.
//!
//! Invariants: a token is made without a write to the disk; one that is read back was signed by a published key of this
//! installation, names this issuer, and has not expired.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_core::{ClientId, Confirmation, Entropy, SecretString, UnixMillis, port::ClientRecord};
use serde::{Deserialize, Serialize};

use crate::{authority::Authority, signing::SigningError};

/// Longest token that a new client can get, in bytes: the verifier of inbound calls reads none that is longer, because
/// common servers take no more in all headers together.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Longest own token that is read back, in bytes: clients of before that bound may have got such ones.
const READ_BYTES_MAX: usize = 32 * 1024;

/// Room for what stands around the claims: the header (110 bytes), the signature of the longest key, RSA with 2,048 bits
/// (342 bytes), and two dots.
const AROUND_CLAIMS: usize = 512;

/// Room for the claims that are neither audience nor scopes, with their names: an issuer of 256 bytes, the client's id
/// twice, two times, `jti` and `cnf` have 600 bytes at most.
const OTHER_CLAIMS: usize = 1024;

/// Most bytes that audience and scopes of a client may take in the claims of its tokens ([`grants_bytes`]). Base64 makes
/// four letters of three bytes.
pub(crate) const GRANTS_BYTES_MAX: usize = (TOKEN_BYTES_MAX - AROUND_CLAIMS) / 4 * 3 - OTHER_CLAIMS;

/// Random bytes of a `jti`.
const JTI_BYTES: usize = 16;

/// `aud` of RFC 7519 section 4.1.3: one text where there is one, which every verifier takes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// RFC 9068 section 2.2.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    sub: String,
    client_id: ClientId,
    aud: Audience,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<Cnf>,
}

/// RFC 7800: what the sender has to prove to hold. An enum, so that there is one member and no other.
#[derive(Serialize, Deserialize)]
enum Cnf {
    #[serde(rename = "x5t#S256")]
    X5tS256(String),
    #[serde(rename = "jkt")]
    Jkt(String),
}

impl Cnf {
    fn of(bound: Confirmation) -> Self {
        let text = BASE64_URL_SAFE_NO_PAD.encode(bound.digest());
        match bound {
            Confirmation::X5tS256(_) => Self::X5tS256(text),
            Confirmation::Jkt(_) => Self::Jkt(text),
        }
    }

    fn read(&self) -> Option<Confirmation> {
        let (member, text) = match self {
            Self::X5tS256(text) => ("x5t#S256", text),
            Self::Jkt(text) => ("jkt", text),
        };
        Confirmation::of(member, BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?)
    }
}

/// A JWT of this installation as it was read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OwnJwt {
    pub(crate) client: ClientId,
    pub(crate) audience: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) issued_at: UnixMillis,
    pub(crate) expires_at: UnixMillis,
    pub(crate) id: String,
    pub(crate) bound: Option<Confirmation>,
}

/// The bytes that these take in claims: every text as it is, because none has a letter that JSON escapes, a scope with
/// the space that parts it from the next, an identifier of an API with its quotation marks and comma.
pub(crate) fn grants_bytes(scopes: &[String], audience: &[String]) -> usize {
    let with = |texts: &[String], more: usize| texts.iter().map(|text| text.len() + more).sum::<usize>();
    with(scopes, 1) + with(audience, 3)
}

/// Makes a token of `client` with these scopes.
pub(crate) fn issue(
    authority: &Authority,
    client: &ClientRecord,
    scopes: &[String],
    bound: Option<Confirmation>,
    (now, entropy): (UnixMillis, &dyn Entropy),
) -> Result<(SecretString, Duration), SigningError> {
    let life = Duration::from_secs(client.token_ttl_s);
    let mut id = [0; JTI_BYTES];
    entropy.fill(&mut id);
    let aud = match &client.audience[..] {
        [one] => Audience::One(one.clone()),
        several => Audience::Several(several.to_vec()),
    };
    let iat = now.as_secs();
    let claims = Claims {
        iss: authority.issuer.as_str().to_owned(),
        sub: client.id.to_string(),
        client_id: client.id.clone(),
        aud,
        iat,
        exp: iat.saturating_add(client.token_ttl_s),
        jti: BASE64_URL_SAFE_NO_PAD.encode(id),
        scope: (!scopes.is_empty()).then(|| scopes.join(" ")),
        cnf: bound.map(Cnf::of),
    };
    let payload = serde_json::to_vec(&claims).map_err(|_| SigningError::Key)?;
    Ok((SecretString::new(authority.keys.sign(&payload)?), life))
}

/// Whether a token has the form of a JWT, whoever made it.
pub(crate) fn looks_like_one(token: &[u8]) -> bool {
    token.len() <= READ_BYTES_MAX && token.split(|byte| *byte == b'.').count() == 3
}

/// Reads a token of this installation; none for anything else, and for one that has expired at `now`.
pub(crate) fn read(authority: &Authority, token: &[u8], now: UnixMillis) -> Option<OwnJwt> {
    if !looks_like_one(token) {
        return None;
    }
    let payload = authority.keys.verified(std::str::from_utf8(token).ok()?)?;
    let claims: Claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let expires_at = UnixMillis(claims.exp.saturating_mul(1000));
    if claims.iss != authority.issuer.as_str() || now >= expires_at {
        return None;
    }
    let bound = match claims.cnf {
        None => None,
        Some(cnf) => Some(cnf.read()?),
    };
    let audience = match claims.aud {
        Audience::One(one) => vec![one],
        Audience::Several(several) => several,
    };
    let scopes = claims.scope.unwrap_or_default().split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect();
    Some(OwnJwt {
        client: claims.client_id,
        audience,
        scopes,
        issued_at: UnixMillis(claims.iat.saturating_mul(1000)),
        expires_at,
        id: claims.jti,
        bound,
    })
}
