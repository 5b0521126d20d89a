//! The claims of a CXone token that say whose it is.
//!
//! Invariant: decoded and not verified, and called so; of the claims only ids leave, never a person's name or address.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kh_core::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What is told of the claims (platform facts: `tenantId`, `icBUId`, `icClusterId`, `role`).
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Claims {
    issuer: Option<String>,
    tenant_id: Option<String>,
    business_unit: Option<String>,
    cluster: Option<String>,
    role: Option<String>,
    expires_at: Option<u64>,
}

#[derive(Deserialize)]
struct Wire {
    iss: Option<String>,
    #[serde(rename = "tenantId")]
    tenant_id: Option<String>,
    #[serde(rename = "icBUId")]
    business_unit: Option<serde_json::Value>,
    #[serde(rename = "icClusterId")]
    cluster: Option<String>,
    role: Option<Role>,
    exp: Option<u64>,
}

#[derive(Deserialize)]
struct Role {
    #[serde(rename = "legacyId")]
    legacy_id: Option<String>,
    id: Option<String>,
}

/// Longest claim told, in characters.
const CLAIM_MAX: usize = 120;

/// The payload of a JWT (RFC 7519 section 3), without its signature being looked at; none if it is no JWT.
pub(super) fn decode(token: &SecretString) -> Option<Claims> {
    let payload = token.expose().split('.').nth(1)?;
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let wire: Wire = serde_json::from_slice(&bytes).ok()?;
    let shown = |text: String| text.chars().filter(|letter| !letter.is_control()).take(CLAIM_MAX).collect();
    Some(Claims {
        issuer: wire.iss.map(shown),
        tenant_id: wire.tenant_id.map(shown),
        business_unit: wire
            .business_unit
            .filter(|value| value.is_number() || value.is_string())
            .map(|value| shown(value.as_str().map_or_else(|| value.to_string(), str::to_owned))),
        cluster: wire.cluster.map(shown),
        role: wire.role.and_then(|role| role.legacy_id.or(role.id)).map(shown),
        expires_at: wire.exp,
    })
}

impl Claims {
    /// The claims as rows.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let rows = [
            ("issuer", self.issuer.clone()),
            ("tenant", self.tenant_id.clone()),
            ("business unit", self.business_unit.clone()),
            ("cluster", self.cluster.clone()),
            ("role", self.role.clone()),
        ];
        rows.into_iter().filter_map(|(name, value)| Some((name, format!("{} (not verified)", value?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_and_people_are_not() {
        let payload = r#"{"iss":"https://auth.example","tenantId":"t-1","icBUId":-42,"icClusterId":"B32","name":"ada@example.com","role":{"legacyId":"Agent","id":"r"},"exp":5}"#;
        let token = SecretString::new(format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload)));
        let claims = decode(&token).unwrap();
        assert_eq!((claims.business_unit.as_deref(), claims.role.as_deref()), (Some("-42"), Some("Agent")));
        assert!(!serde_json::to_string(&claims).unwrap().contains("ada@"));
        for bad in ["", "opaque", "a.b.c", "e30.!!!.x", "e30.W10.x"] {
            assert_eq!(decode(&SecretString::copied(bad)), None, "{bad}");
        }
    }
}
