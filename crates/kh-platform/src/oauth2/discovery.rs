//! Where an issuer's metadata is: at the address of RFC 8414, else at that of OpenID Connect Discovery.
//!
//! Invariant: the second address is asked only where the issuer has no document at the first one. A document that is
//! not believed ends the search, and so does an issuer that cannot answer now.

use crate::{
    Address, HttpClient, HttpError, Media,
    http::{Answer, get},
};

/// The metadata document of `issuer`, or what was answered in its place.
pub(crate) async fn well_known(http: &HttpClient, issuer: &Address) -> Result<Answer, HttpError> {
    // RFC 8414 section 3.1 puts the well-known part between host and path; OpenID discovery appends it
    let mut rfc8414 = issuer.url().clone();
    rfc8414.set_path(&format!("/.well-known/oauth-authorization-server{}", issuer.path()));
    let answer = get(http, rfc8414).await?;
    if !is_absent(&answer) {
        return Ok(answer);
    }
    let second = get(http, issuer.join("/.well-known/openid-configuration")).await?;
    // where neither address has one, that is told which says more than that there is none
    Ok(if second.head.status == 404 { answer } else { second })
}

/// Whether there is no document. Not every issuer says that with 404: Amazon Cognito answers 400, servers in front of
/// one 401 or 403, others 200 with nothing or with the page of an application, or a redirect to it, which is not followed.
fn is_absent(answer: &Answer) -> bool {
    match answer.head.status {
        200 => answer.head.media == Media::Other || !answer.body.trim_ascii_start().starts_with(b"{"),
        // the time and the rate of the request, not its address (RFC 9110 section 15.5.9, RFC 6585 section 4)
        408 | 429 => false,
        status => (300..500).contains(&status),
    }
}

/// Whether metadata that name this issuer are those of `issuer` (RFC 8414 section 3.3), letter by letter.
pub(crate) fn is_same_issuer(named: &str, issuer: &Address) -> bool {
    // a trailing slash is the one difference that providers themselves are careless about
    named.trim_end_matches('/') == issuer.text()
}
