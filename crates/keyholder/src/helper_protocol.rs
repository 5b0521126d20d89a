//! What programs write to a credential helper's standard input: the EngFlow credential helper specification (Bazel and
//! others) and git's credential protocol (git-credential(1)).
//!
//! Invariants: no input makes it panic or grow without limit; a place to send a token to is known by scheme, host and
//! port, or the input is refused; what is not understood is refused and never repeated, because it may be a secret.

use kh_core::{SecretString, Sha256};
use serde::Deserialize;
use url::{Host, Url};
use zeroize::Zeroizing;

/// Most bytes read from standard input: a URI, or a git request with a long token in it.
pub const INPUT_MAX: usize = 64 * 1024;

/// Most lines of a git request: it has a dozen, and one `wwwauth[]` for each challenge of the server.
const LINES_MAX: usize = 256;

/// Why an input was refused. Never repeats any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelperError {
    /// More than [`INPUT_MAX`] bytes or too many lines.
    #[error("the request is longer than any that a client sends")]
    TooLong,
    /// No JSON object with a text `uri`.
    #[error("the request is not {{\"uri\":\"...\"}}")]
    NotARequest,
    /// Not `key=value` lines in UTF-8.
    #[error("the request is not made of lines key=value")]
    NotLines,
    /// No usable address in the request.
    #[error("the request names no address with a scheme and a host")]
    NoAddress,
    /// The address carries a user name or password.
    #[error("the address in the request carries a user name or password")]
    UserInfo,
    /// A token would travel unencrypted.
    #[error("the address in the request is neither encrypted nor on this machine")]
    InClear,
}

/// Where a token would be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    host: Host,
    port: u16,
}

impl Target {
    /// The target of a URI. `grpcs` and `wss` are as good as `https` and share its port.
    pub fn of_uri(text: &str) -> Result<Self, HelperError> {
        let url = Url::parse(text).map_err(|_| HelperError::NoAddress)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(HelperError::UserInfo);
        }
        let (encrypted, usual) = match url.scheme() {
            "https" | "wss" | "grpcs" => (true, 443),
            "http" | "ws" | "grpc" => (false, 80),
            _ => return Err(HelperError::NoAddress),
        };
        // The host of a scheme that the URL standard does not know is not checked by it.
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(HelperError::NoAddress)?;
        let host = Host::parse(host).map_err(|_| HelperError::NoAddress)?;
        if !encrypted && !is_local(&host) {
            return Err(HelperError::InClear);
        }
        Ok(Self { host, port: url.port().unwrap_or(usual) })
    }

    /// `host` or `host:port`, as a person names one.
    pub fn of_host(text: &str) -> Result<Self, HelperError> {
        if text.contains(['/', '@', '?', '#', '\\']) {
            return Err(HelperError::NoAddress);
        }
        Self::of_uri(&format!("https://{text}"))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            443 => self.host.fmt(f),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// The `get` request of the EngFlow specification: `{"uri":"..."}`. Further members are ignored, as it asks for.
pub fn parse_engflow(input: &[u8]) -> Result<Target, HelperError> {
    #[derive(Deserialize)]
    struct Request {
        uri: String,
    }
    if input.len() > INPUT_MAX {
        return Err(HelperError::TooLong);
    }
    // A list would be read as an object by position.
    if input.trim_ascii_start().first() != Some(&b'{') {
        return Err(HelperError::NotARequest);
    }
    let request: Request = serde_json::from_slice(input).map_err(|_| HelperError::NotARequest)?;
    Target::of_uri(&request.uri)
}

/// What git asks for, or tells.
#[derive(Debug)]
pub struct GitRequest {
    /// The server.
    pub target: Target,
    /// The user name that the URL or the configuration has.
    pub username: Option<String>,
    /// Whether this git can send an `Authorization` of any scheme (from 2.46), and not only Basic.
    pub knows_authtype: bool,
    /// Digest of the password or credential that did not work, in an `erase`.
    pub used: Option<Sha256>,
}

/// A request of git's credential protocol: lines `key=value` up to an empty one.
pub fn parse_git(input: &[u8]) -> Result<GitRequest, HelperError> {
    if input.len() > INPUT_MAX {
        return Err(HelperError::TooLong);
    }
    let text = std::str::from_utf8(input).map_err(|_| HelperError::NotLines)?;
    let (mut protocol, mut host, mut username, mut used) = (None, None, None, None);
    let mut knows_authtype = false;
    for (number, line) in text.lines().take_while(|line| !line.is_empty()).enumerate() {
        if number >= LINES_MAX {
            return Err(HelperError::TooLong);
        }
        let (key, value) = line.split_once('=').ok_or(HelperError::NotLines)?;
        match key {
            "protocol" => protocol = Some(value),
            "host" => host = Some(value),
            "username" => username = Some(value.to_owned()),
            "capability[]" => knows_authtype |= value == "authtype",
            "password" | "credential" => used = Some(SecretString::copied(value).sha256()),
            // what else there is does not matter here, and the protocol asks to ignore it
            _ => {}
        }
    }
    let (Some(protocol), Some(host)) = (protocol, host) else { return Err(HelperError::NoAddress) };
    if !matches!(protocol, "http" | "https") || host.contains(['/', '@', '?', '#', '\\']) {
        return Err(HelperError::NoAddress);
    }
    let target = Target::of_uri(&format!("{protocol}://{host}"))?;
    Ok(GitRequest { target, username, knows_authtype, used })
}

/// `value` for a POSIX shell, in single quotes.
pub fn shell_quoted(value: &str) -> Zeroizing<String> {
    let mut quoted = Zeroizing::new(String::with_capacity(4 * value.len() + 2));
    quoted.push('\'');
    for letter in value.chars() {
        match letter {
            '\'' => quoted.push_str("'\\''"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests;
