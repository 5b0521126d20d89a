//! Authorization server metadata (RFC 8414 section 2), as far as a token request needs it.
//!
//! Invariant: metadata that names another issuer than the configured one is not believed (section 3.3), and an https
//! issuer cannot send the secret to plain http.

use serde::Deserialize;

use super::discovery::is_same_issuer;
use crate::{
    Address, AddressError, ClientAuth, PlainHttp,
    answer::{AnswerError, parse_object},
};

/// What the issuer says about its token endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where token requests go.
    pub token_endpoint: Address,
    /// Basic where it is offered (also by silence, which is the RFC's default), else post.
    pub client_auth: ClientAuth,
}

/// Why metadata was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not JSON of the expected shape.
    #[error("{0}")]
    Shape(#[from] AnswerError),
    /// It speaks for somebody else.
    #[error("it names another issuer than the configured one")]
    OtherIssuer,
    /// A field is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// The token endpoint's address is malformed.
    #[error("its token_endpoint is refused: {0}")]
    Address(AddressError),
    /// The token endpoint is plain http elsewhere than at the issuer itself.
    #[error("its token_endpoint would take the secret in clear")]
    PlainHttp,
    /// Neither Basic nor post is offered.
    #[error("it offers neither client_secret_basic nor client_secret_post")]
    NoClientAuth,
}

#[derive(Deserialize)]
struct Wire {
    issuer: Option<String>,
    token_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// Parses the metadata of `issuer`.
pub fn parse_metadata(body: &[u8], issuer: &Address) -> Result<Metadata, MetadataError> {
    let wire: Wire = parse_object(body)?;
    let named = wire.issuer.ok_or(MetadataError::Missing("issuer"))?;
    if !is_same_issuer(&named, issuer) {
        return Err(MetadataError::OtherIssuer);
    }
    let text = wire.token_endpoint.ok_or(MetadataError::Missing("token_endpoint"))?;
    let token_endpoint = Address::parse(&text, PlainHttp::Allowed).map_err(MetadataError::Address)?;
    if !token_endpoint.is_https() && !token_endpoint.same_origin(issuer) {
        return Err(MetadataError::PlainHttp);
    }
    let client_auth = match wire.token_endpoint_auth_methods_supported {
        None => ClientAuth::Basic,
        Some(methods) if methods.iter().any(|method| method == "client_secret_basic") => ClientAuth::Basic,
        Some(methods) if methods.iter().any(|method| method == "client_secret_post") => ClientAuth::Post,
        Some(_) => return Err(MetadataError::NoClientAuth),
    };
    Ok(Metadata { token_endpoint, client_auth })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn issuer() -> Address {
        Address::parse("https://id.example/t1", PlainHttp::LoopbackOnly).unwrap()
    }

    fn parse(body: &serde_json::Value) -> Result<Metadata, MetadataError> {
        parse_metadata(body.to_string().as_bytes(), &issuer())
    }

    #[test]
    fn metadata() {
        use MetadataError::{Missing, NoClientAuth, OtherIssuer};
        let own = "https://id.example/t1";
        let good = serde_json::json!({"issuer": own, "token_endpoint": "https://token.example/x/"});
        let found = parse(&good).unwrap();
        assert_eq!(found.token_endpoint.url().as_str(), "https://token.example/x/");
        assert_eq!(found.client_auth, ClientAuth::Basic);
        let with = |field: &str, value: serde_json::Value| {
            let mut body = good.clone();
            body[field] = value;
            parse(&body)
        };
        let methods = "token_endpoint_auth_methods_supported";
        let auth = |offered: &[&str]| with(methods, offered.into()).map(|metadata| metadata.client_auth);
        assert_eq!(auth(&["client_secret_post", "client_secret_basic"]), Ok(ClientAuth::Basic));
        assert_eq!(auth(&["client_secret_post", "none"]), Ok(ClientAuth::Post));
        assert_eq!(auth(&["private_key_jwt"]), Err(NoClientAuth));
        assert!(with("issuer", "https://id.example/t1/".into()).is_ok());
        for other in
            ["https://id.example/t2", "https://id.example", "http://id.example/t1", "https://ID.example/t1", ""]
        {
            assert_eq!(with("issuer", other.into()), Err(OtherIssuer), "{other}");
        }
        assert_eq!(with("issuer", serde_json::Value::Null), Err(Missing("issuer")));
        assert_eq!(with("token_endpoint", serde_json::Value::Null), Err(Missing("token_endpoint")));
        for clear in ["http://id.example/t1/token", "http://127.0.0.1/token"] {
            assert_eq!(with("token_endpoint", clear.into()), Err(MetadataError::PlainHttp), "{clear}");
        }
        assert_eq!(
            with("token_endpoint", "https://u:p@id.example/".into()),
            Err(MetadataError::Address(AddressError::UserInfo))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(parse_metadata(&body, &issuer()));
        }
    }
}
