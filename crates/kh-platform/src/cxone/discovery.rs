//! CXone's documents: openid-configuration, cxone-configuration, and the regional refresh answer.
//!
//! Invariant: an address that comes out of here is allowed to receive a secret or a token.

use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{AllowedHosts, TenantId};
use crate::{
    Address, AddressError, PlainHttp,
    answer::{AnswerError, LIFETIME_MAX, Seconds, TokenAnswer, bounded_lifetime, parse_object, token},
};

/// What the issuer says about itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// Where token requests go.
    pub token_endpoint: Address,
}

/// What the issuer says about one tenant.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Base of API calls.
    pub api: Address,
    /// Regional host of user operations and access-key management.
    pub auth: Address,
}

/// Why a discovery document was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// Not JSON of the expected shape.
    #[error("{0}")]
    Shape(#[from] AnswerError),
    /// It speaks for somebody else (RFC 8414 section 3.3).
    #[error("it names another issuer than the configured one")]
    OtherIssuer,
    /// It is about another tenant than asked for.
    #[error("it is about another tenant")]
    OtherTenant,
    /// A field is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// An address is malformed.
    #[error("its {field} is refused: {error}")]
    Address {
        /// The field.
        field: &'static str,
        /// Why.
        error: AddressError,
    },
    /// An address lies where secrets and tokens may not go.
    #[error("its {0} lies outside the allowed hosts")]
    HostNotAllowed(&'static str),
}

#[derive(Deserialize)]
struct ProviderWire {
    issuer: Option<String>,
    token_endpoint: Option<String>,
}

/// Parses openid-configuration. The document must name `issuer` itself; its token endpoint must share the issuer's
/// origin or lie within `hosts`, because the secrets go there.
pub fn parse_provider(body: &[u8], issuer: &Address, hosts: &AllowedHosts) -> Result<Provider, DiscoveryError> {
    let wire: ProviderWire = parse_object(body)?;
    let named = wire.issuer.ok_or(DiscoveryError::Missing("issuer"))?;
    if named.trim_end_matches('/') != issuer.text() {
        return Err(DiscoveryError::OtherIssuer);
    }
    let token_endpoint = address("token_endpoint", wire.token_endpoint)?;
    if !token_endpoint.same_origin(issuer) && !hosts.allow(&token_endpoint) {
        return Err(DiscoveryError::HostNotAllowed("token_endpoint"));
    }
    Ok(Provider { token_endpoint })
}

#[derive(Deserialize)]
struct EndpointsWire {
    api_endpoint: Option<String>,
    auth_endpoint: Option<String>,
    #[serde(rename = "tenantId")]
    tenant_id: Option<String>,
}

/// Parses cxone-configuration of `tenant`. Both endpoints must lie within `hosts`.
pub fn parse_endpoints(body: &[u8], tenant: &TenantId, hosts: &AllowedHosts) -> Result<Endpoints, DiscoveryError> {
    let wire: EndpointsWire = parse_object(body)?;
    if wire.tenant_id.is_some_and(|found| !found.eq_ignore_ascii_case(tenant.as_str())) {
        return Err(DiscoveryError::OtherTenant);
    }
    let allowed = |field, text| {
        let address = address(field, text)?;
        if hosts.allow(&address) { Ok(address) } else { Err(DiscoveryError::HostNotAllowed(field)) }
    };
    Ok(Endpoints {
        api: allowed("api_endpoint", wire.api_endpoint)?,
        auth: allowed("auth_endpoint", wire.auth_endpoint)?,
    })
}

fn address(field: &'static str, text: Option<String>) -> Result<Address, DiscoveryError> {
    let text = text.ok_or(DiscoveryError::Missing(field))?;
    Address::parse(&text, PlainHttp::LoopbackOnly).map_err(|error| DiscoveryError::Address { field, error })
}

#[derive(Deserialize)]
struct RefreshWire {
    token: Option<Zeroizing<String>>,
    #[serde(rename = "refreshToken")]
    refresh_token: Option<Zeroizing<String>>,
    #[serde(rename = "tokenExpirationTimeSec")]
    expires_in: Option<Seconds>,
}

/// Parses the answer of `/public/user/refresh`, whose keys differ from every other token answer. A life beyond 450
/// days is refused rather than cut: a number that large would be a date.
pub fn parse_refresh_answer(body: &[u8]) -> Result<TokenAnswer, AnswerError> {
    let wire: RefreshWire = parse_object(body)?;
    let access_token = token("token", wire.token)?.ok_or(AnswerError::NoToken)?;
    let life = wire.expires_in.map(|seconds| Duration::from_secs(seconds.get()));
    Ok(TokenAnswer {
        access_token,
        expires_in: bounded_lifetime(life.filter(|life| *life <= LIFETIME_MAX))?,
        refresh_token: token("refreshToken", wire.refresh_token)?,
        scope: None,
        id_token: None,
    })
}

#[cfg(test)]
mod tests;
