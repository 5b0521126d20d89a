//! A platform's base address, parsed once per worker and base.

use http::{HeaderValue, Uri, uri::PathAndQuery};
use rustls_pki_types::ServerName;

use crate::observe::HostName;

/// Why a base address was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OriginError {
    /// Not `http://host[:port][/path]` or `https://...`.
    #[error("it is not an http or https URL without user, query and fragment")]
    NotAUrl,
    /// The host can be no server name of TLS.
    #[error("its host is not a name that a certificate can have")]
    NoServerName,
    /// Base and path together are no path.
    #[error("its path does not fit the call's")]
    Path,
}

/// Scheme, host, port and base path.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Name to look up, without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// With TLS: the name that the certificate must have.
    pub(crate) server_name: Option<ServerName<'static>>,
    /// The `Host` header.
    pub(crate) host_header: HeaderValue,
    base_path: String,
}

impl Origin {
    /// How an observer is told of it.
    pub(crate) fn clone_name(&self) -> HostName {
        HostName { host: self.host.as_str().into(), port: self.port, secure: self.server_name.is_some() }
    }

    /// Parses a base such as `https://api.mypurecloud.com`.
    pub(crate) fn parse(base: &str) -> Result<Self, OriginError> {
        let uri: Uri = base.parse().map_err(|_| OriginError::NotAUrl)?;
        let authority = uri.authority().ok_or(OriginError::NotAUrl)?;
        if uri.query().is_some() || base.contains('#') || authority.as_str().contains('@') {
            return Err(OriginError::NotAUrl);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (port, server_name) = match uri.scheme_str() {
            Some("http") => (80, None),
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| OriginError::NoServerName)?;
                (443, Some(name))
            }
            _ => return Err(OriginError::NotAUrl),
        };
        Ok(Self {
            port: authority.port_u16().unwrap_or(port),
            host_header: HeaderValue::from_str(authority.as_str()).map_err(|_| OriginError::NotAUrl)?,
            base_path: uri.path().trim_end_matches('/').to_owned(),
            host,
            server_name,
        })
    }

    /// The request target for a call: base path and the call's path, from its byte `from` on, with its query.
    pub(crate) fn target(&self, call: &Uri, from: usize) -> Result<Uri, OriginError> {
        // an origin-form target without prefix is used as it is: no copy
        if from == 0 && self.base_path.is_empty() && call.authority().is_none() {
            return Ok(call.clone());
        }
        let path = call.path().get(from..).ok_or(OriginError::Path)?;
        let mut target = String::with_capacity(self.base_path.len() + path.len() + 1);
        target.push_str(&self.base_path);
        target.push_str(path);
        if let Some(query) = call.query() {
            target.push('?');
            target.push_str(query);
        }
        PathAndQuery::try_from(target).map(Uri::from).map_err(|_| OriginError::Path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases() {
        for (base, host, port, tls) in [
            ("https://api.mypurecloud.com", "api.mypurecloud.com", 443, true),
            ("http://127.0.0.1:8080/", "127.0.0.1", 8080, false),
            ("http://[::1]:81/x/", "::1", 81, false),
        ] {
            let origin = Origin::parse(base).unwrap();
            assert_eq!((origin.host.as_str(), origin.port, origin.server_name.is_some()), (host, port, tls), "{base}");
        }
        for base in ["", "/x", "api.mypurecloud.com", "ftp://h", "https://u@h", "https://h/?q=1", "https://h/#f"] {
            assert!(Origin::parse(base).is_err(), "{base}");
        }
    }

    #[test]
    fn targets() {
        for (base, call, from, expected) in [
            ("http://h", "/api/v2/users?a=b", 0, "/api/v2/users?a=b"),
            ("http://h", "/gw/api/v2/users?a=b", 3, "/api/v2/users?a=b"),
            ("http://h/base/", "/x/", 0, "/base/x/"),
            ("http://h", "http://keyholder:1/api/v2/users?a=b", 0, "/api/v2/users?a=b"),
        ] {
            let target = Origin::parse(base).unwrap().target(&call.parse().unwrap(), from).unwrap();
            assert_eq!(target.to_string(), expected);
        }
    }
}
