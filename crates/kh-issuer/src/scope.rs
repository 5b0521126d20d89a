//! The `scope` of a token request (RFC 6749 section 3.3): a request may have fewer scopes than its client, never others.

use kh_core::port::ClientRecord;

/// The scopes are not ones that the client has, or not written as the standard says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotGranted;

/// The scopes that were asked for, in the order in which the client has them; none: all that it has.
///
/// A client that stands in for a platform's and has no scopes of keyholder's is not asked: the platforms ignore the
/// parameter for client credentials, and their SDKs may send one.
pub(crate) fn narrowed(client: &ClientRecord, asked: Option<&str>) -> Result<Option<Vec<String>>, NotGranted> {
    let Some(asked) = asked else { return Ok(None) };
    if client.credential.is_some() && client.scopes.is_empty() {
        return Ok(None);
    }
    let asked: Vec<_> = asked.split(' ').collect();
    if asked.iter().any(|scope| !client.scopes.iter().any(|own| own == scope)) {
        return Err(NotGranted);
    }
    let granted: Vec<_> = client.scopes.iter().filter(|own| asked.contains(&own.as_str())).cloned().collect();
    Ok((granted.len() < client.scopes.len()).then_some(granted))
}
