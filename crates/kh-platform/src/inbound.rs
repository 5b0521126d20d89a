//! Who vouches for callers' tokens: key sets by address, introspection endpoints, Genesys Cloud.
//!
//! Each adapter implements a port of [`kh_core::port::inbound`]. Invariants: one call is one bounded attempt without
//! redirects; an issuer's document is believed for that issuer alone; a caller's token goes to its authority and
//! appears in no error and no log line; where an answer is not what the specification says, the answer is an error.

mod cache_control;
mod genesys;
mod introspection;
mod keys;

pub use genesys::{GenesysRoles, GenesysTokens};
#[cfg(any(test, fuzzing))]
pub(crate) use genesys::{granted, is_of};
pub use introspection::{Introspection, IntrospectionAt, IntrospectionSettings};
pub use keys::{KeysAt, RemoteKeys};

use kh_core::port::RemoteError;
use url::Url;

use crate::{
    Address, AddressError, HttpClient, HttpError, PlainHttp,
    answer::parse_object,
    http::{Answer, Media},
    oauth2::discovery::{is_same_issuer, well_known},
};

/// An address that may have a query, as some issuers' key sets have.
pub(crate) fn document_url(text: &str, plain: PlainHttp) -> Result<Url, AddressError> {
    let (base, query) = text.split_once('?').map_or((text, None), |(base, query)| (base, Some(query)));
    let mut url = Address::parse(base, plain)?.url().clone();
    if query.is_some_and(|query| query.contains('#') || query.len() > crate::address::ADDRESS_MAX) {
        return Err(AddressError::QueryOrFragment);
    }
    url.set_query(query);
    Ok(url)
}

fn unreached(what: &str, error: &HttpError) -> RemoteError {
    let reason = format!("{what}: {error}");
    if matches!(error, HttpError::Connect { .. } | HttpError::Timeout { .. }) {
        RemoteError::passing(reason)
    } else {
        RemoteError::new(reason)
    }
}

/// An answer that is no answer, with the advice that it gives.
fn unusable(what: &str, answer: &Answer) -> RemoteError {
    let reason = match answer.head.status {
        200 => format!("{what}: is not JSON"),
        status => format!("{what}: answered {status}"),
    };
    RemoteError::answered(reason, answer.head.status, answer.head.retry_after)
}

fn is_document(answer: &Answer) -> bool {
    answer.head.status == 200 && answer.head.media == Media::MaybeJson
}

/// What an issuer's metadata (RFC 8414 section 2, OpenID Connect Discovery) names.
#[derive(serde::Deserialize)]
struct Metadata {
    issuer: Option<String>,
    jwks_uri: Option<String>,
    introspection_endpoint: Option<String>,
}

/// The metadata of `issuer`, which must say that it is of this issuer.
async fn metadata(http: &HttpClient, issuer: &Address) -> Result<Metadata, RemoteError> {
    let what = "the issuer's metadata";
    let answer = well_known(http, issuer).await.map_err(|error| unreached(what, &error))?;
    if !is_document(&answer) {
        return Err(unusable(what, &answer));
    }
    parse_metadata(&answer.body, issuer)
}

fn parse_metadata(body: &[u8], issuer: &Address) -> Result<Metadata, RemoteError> {
    let metadata: Metadata =
        parse_object(body).map_err(|error| RemoteError::new(format!("the issuer's metadata: {error}")))?;
    if metadata.issuer.as_deref().is_none_or(|named| !is_same_issuer(named, issuer)) {
        return Err(RemoteError::new("the issuer's metadata: it is another issuer's"));
    }
    Ok(metadata)
}

/// For the fuzz body: the key set's and the introspection's address in the metadata of `issuer`.
#[cfg(any(test, fuzzing))]
pub(crate) fn named_addresses(body: &[u8], issuer: &Address) -> Option<[Option<Url>; 2]> {
    let metadata = parse_metadata(body, issuer).ok()?;
    let url = |name, text: Option<String>| named_url(name, text.as_deref(), issuer).ok();
    Some([url("jwks_uri", metadata.jwks_uri), url("introspection_endpoint", metadata.introspection_endpoint)])
}

/// An address out of metadata: https, or where the issuer itself is plain http, the issuer's own origin.
fn named_url(name: &str, text: Option<&str>, issuer: &Address) -> Result<Url, RemoteError> {
    let text = text.ok_or_else(|| RemoteError::new(format!("the issuer's metadata has no {name}")))?;
    let url = document_url(text, PlainHttp::Allowed)
        .map_err(|error| RemoteError::new(format!("the issuer's metadata: its {name} is refused: {error}")))?;
    if url.scheme() != "https" && url.origin() != issuer.url().origin() {
        return Err(RemoteError::new(format!("the issuer's metadata: its {name} is plain http")));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_taken_and_fragments_are_not() {
        let url = |text: &str| document_url(text, PlainHttp::LoopbackOnly);
        assert_eq!(url("https://h/keys?p=b2c").unwrap().as_str(), "https://h/keys?p=b2c");
        assert_eq!(url("http://127.0.0.1:1/k").unwrap().as_str(), "http://127.0.0.1:1/k");
        for bad in ["https://h/k#f", "https://h/k?a#f", "https://u@h/k?a", "http://h/k?a", "ftp://h/k?a", "k?a", ""] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_is_of_its_issuer_alone() {
        let issuer = Address::parse("https://id.example/t1", PlainHttp::LoopbackOnly).unwrap();
        let parse = |issuer_named: &str| {
            let body = serde_json::json!({"issuer": issuer_named, "jwks_uri": "https://k.example/j"}).to_string();
            parse_metadata(body.as_bytes(), &issuer)
        };
        assert!(parse("https://id.example/t1").is_ok());
        assert!(parse("https://id.example/t1/").is_ok());
        for other in ["https://id.example/t2", "https://id.example", "https://ID.example/t1", "http://id.example/t1"] {
            assert!(parse(other).is_err_and(|error| error.reason.contains("another issuer")), "{other}");
        }
        for broken in ["", "[]", "{}", "{\"issuer\":1}", "{\"issuer\":\"https://id.example/t1\",\"issuer\":\"x\"}"] {
            assert!(parse_metadata(broken.as_bytes(), &issuer).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_metadata_names_is_https_or_at_home() {
        let of = |text: &str| Address::parse(text, PlainHttp::LoopbackOnly).unwrap();
        let (public, local) = (of("https://id.example/t1"), of("http://127.0.0.1:9/t1"));
        let url =
            |text: &str, issuer: &Address| named_url("jwks_uri", Some(text), issuer).map_err(|error| error.reason);
        assert!(url("https://keys.example/a?b=c", &public).is_ok());
        assert!(url("http://127.0.0.1:9/keys", &local).is_ok());
        assert!(url("https://keys.example/", &local).is_ok());
        for (text, issuer) in
            [("http://id.example/k", &public), ("http://127.0.0.1:8/k", &local), ("file:///etc/passwd", &public)]
        {
            assert!(url(text, issuer).is_err(), "{text}");
        }
        assert!(named_url("jwks_uri", None, &public).is_err());
    }
}
