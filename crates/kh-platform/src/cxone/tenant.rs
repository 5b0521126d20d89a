//! The tenant named in a CXone JWT.
//!
//! The signature is not checked here and need not be: the token came over TLS from the pinned issuer, and the tenant
//! only picks which discovery document of that same issuer is read. Nobody is authenticated by it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::answer::TOKEN_MAX;

/// A tenant id: 1 to 64 letters, digits and hyphens (a UUID in all published examples).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantId(String);

impl TenantId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "tenantId")]
    tenant_id: Option<String>,
}

/// Reads `tenantId` from the payload of a compact JWS; `None` for anything else. The payload holds names and mail
/// addresses, so its buffer is wiped.
pub fn parse_tenant_id(jwt: &str) -> Option<TenantId> {
    if jwt.len() > TOKEN_MAX {
        return None;
    }
    let mut parts = jwt.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let mut clear = Zeroizing::new(vec![0; payload.len()]);
    let length = URL_SAFE_NO_PAD.decode_slice(payload.trim_end_matches('='), &mut clear).ok()?;
    let claims: Claims = serde_json::from_slice(clear.get(..length)?).ok()?;
    let id = claims.tenant_id?;
    let fits = (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then_some(TenantId(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn jwt(payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn tenants() {
        let id = "11eb0f3d-2f3e-4c2a-9d60-0242ac110002";
        let found = |payload: &str| parse_tenant_id(&jwt(payload)).map(|tenant| tenant.0);
        assert_eq!(found(&format!(r#"{{"sub":"user:1","tenantId":"{id}","role":{{"id":[1]}}}}"#)).as_deref(), Some(id));
        for payload in [
            "{}",
            "[]",
            "tenantId",
            r#"{"tenantId":null}"#,
            r#"{"tenantId":7}"#,
            r#"{"tenantId":""}"#,
            r#"{"tenantId":"a/../b"}"#,
            r#"{"tenantId":"a&tenantId=b"}"#,
            &format!(r#"{{"tenantId":"{}"}}"#, "a".repeat(65)),
        ] {
            assert_eq!(found(payload), None, "{payload}");
        }
        for text in ["", "a.b", "a.b.c.d", "a.!!!.c", "..", &format!("{}x", jwt("{}").repeat(4000))] {
            assert_eq!(parse_tenant_id(text), None, "{text:.40}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~.]{0,200}") {
            drop(parse_tenant_id(&text));
        }
    }
}
