//! A running broker as the commands see it that get a token from it.
//!
//! Invariants: the guard token goes to this machine only, and over a unix socket only if nobody else could have put
//! another socket in its place; a token is wiped when the command is done with it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kh_core::{Code, CredentialName, EnvironmentName, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::Context;
use crate::{
    compose::{local_http, local_http_over},
    output::Failure,
};

/// The broker answers from memory or after one login; longer than its own limit for that.
const PATIENCE: Duration = Duration::from_secs(40);

/// Largest answer that is read: a token and its places have a few KiB.
const ANSWER_MAX: usize = 256 * 1024;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// `http://127.0.0.1:8082`, without a slash at its end.
    Http(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// A token with everything that the broker tells about it.
#[derive(Serialize, Deserialize)]
pub(super) struct Token {
    #[serde(rename = "access_token")]
    pub(super) secret: Zeroizing<String>,
    pub(super) expires_at: String,
    pub(super) api_base: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) auth_base: Option<String>,
    pub(super) sha256: String,
    /// What else it tells, for `--output json`.
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// What is asked for.
pub(super) struct Wish<'a> {
    pub(super) profile: &'a CredentialName,
    pub(super) min_ttl: Option<Duration>,
    pub(super) environment: Option<&'a EnvironmentName>,
}

/// A broker that can be asked.
pub(super) struct LocalBroker {
    place: Place,
    guard: Option<SecretString>,
    http: reqwest::Client,
}

impl LocalBroker {
    /// The broker of KEYHOLDER_URL and KEYHOLDER_TOKEN_FILE, else the configured one.
    pub(super) fn of(context: &Context) -> Result<Self, Failure> {
        let url = context.environment.text("KEYHOLDER_URL");
        let named = context.environment.path("KEYHOLDER_TOKEN_FILE");
        let (place, file, is_optional) = match url {
            // Over a socket the user is the guard, so that a token file need not exist.
            Some(url) if named.is_some() || url.starts_with("unix:") => (parse(&url)?, named, false),
            url => {
                let loaded = context.load()?;
                let place = match (url, &loaded.config.broker.socket, loaded.config.broker.listen) {
                    (Some(url), ..) => parse(&url)?,
                    (None, Some(socket), _) => Place::Unix(loaded.paths.resolve(socket)),
                    (None, None, Some(address)) => Place::Http(format!("http://{address}")),
                    (None, None, None) => {
                        return Err(Failure::new(Code::CONFIG_INVALID, "the configuration turns the broker off")
                            .hint("name another with KEYHOLDER_URL"));
                    }
                };
                let is_optional = named.is_none() && matches!(place, Place::Unix(_));
                (place, Some(named.unwrap_or(loaded.paths.broker_token)), is_optional)
            }
        };
        let guard = match file.as_deref().map(kh_admin::guard::read_token) {
            None => None,
            Some(Ok(token)) => Some(token),
            Some(Err(_)) if is_optional => None,
            Some(Err(error)) => {
                return Err(Failure::of(Code::GUARD_REFUSED, &error)
                    .hint("name the file with KEYHOLDER_TOKEN_FILE; `keyholder serve` makes it"));
            }
        };
        let http = match &place {
            Place::Http(_) => local_http(PATIENCE)?,
            Place::Unix(path) => local_http_over(path, PATIENCE)?,
        };
        Ok(Self { place, guard, http })
    }

    /// A token of the wished profile, valid now.
    pub(super) async fn token(&self, wish: &Wish<'_>) -> Result<Token, Failure> {
        let environment = wish.environment.map_or("", EnvironmentName::as_str);
        let mut query = format!("environment={environment}");
        if let Some(least) = wish.min_ttl {
            // A part of a second more is what was asked for, a part less is not.
            let seconds = least.as_secs() + u64::from(least.subsec_nanos() > 0);
            query = format!("{query}&min_ttl={seconds}");
        }
        let path = format!("/v1/token/{}?{query}", escaped(wish.profile));
        let (status, body) = self.exchange(self.http.get(self.url(&path))).await?;
        if !(200..300).contains(&status) {
            return Err(self.refused(&body));
        }
        serde_json::from_slice(&body).map_err(|_| self.not_a_broker())
    }

    /// Reports that a token did not work.
    pub(super) async fn invalidate(&self, profile: &CredentialName, sha256: &str) -> Result<(), Failure> {
        let path = format!("/v1/token/{}/invalidate", escaped(profile));
        let report = serde_json::json!({ "sha256": sha256 });
        let (status, body) = self.exchange(self.http.post(self.url(&path)).json(&report)).await?;
        if (200..300).contains(&status) { Ok(()) } else { Err(self.refused(&body)) }
    }

    fn url(&self, path: &str) -> String {
        match &self.place {
            Place::Http(base) => format!("{base}{path}"),
            // The connector goes to the socket; the name is what the broker wants to read as its Host.
            Place::Unix(_) => format!("http://localhost{path}"),
        }
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<(u16, Zeroizing<Vec<u8>>), Failure> {
        let request = match &self.guard {
            Some(guard) => {
                let mut value = reqwest::header::HeaderValue::from_str(guard.expose())
                    .map_err(|_| Failure::new(Code::GUARD_REFUSED, "the guard token is not one"))?;
                value.set_sensitive(true);
                request.header("X-Keyholder-Token", value)
            }
            None => request,
        };
        let mut response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status().as_u16();
        let mut body = Zeroizing::new(Vec::with_capacity(16 * 1024));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(self.not_a_broker());
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        Failure::new(Code::UPSTREAM_UNREACHABLE, format!("the broker at {} does not answer", self.place))
            .caused_by(&error.without_url())
            .hint("is `keyholder serve` running? KEYHOLDER_URL names another address")
    }

    fn refused(&self, body: &[u8]) -> Failure {
        refusal(body).unwrap_or_else(|| self.not_a_broker())
    }

    fn not_a_broker(&self) -> Failure {
        Failure::new(Code::UPSTREAM_PROTOCOL, format!("what answers at {} is not a broker of keyholder", self.place))
            .hint("KEYHOLDER_URL names another address")
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(base) => f.write_str(base),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `http://` on loopback, or `unix:` and a path.
fn parse(url: &str) -> Result<Place, Failure> {
    let wrong = |detail: &str| {
        Failure::new(Code::CONFIG_INVALID, format!("KEYHOLDER_URL {detail}"))
            .hint("write http://127.0.0.1:8082 or unix:/run/keyholder/broker.sock")
    };
    if let Some(path) = url.strip_prefix("unix:") {
        let path = Path::new(path);
        if !path.is_absolute() || url.starts_with("unix://") {
            return Err(wrong("names no absolute path after unix:"));
        }
        return kh_admin::socket::check_folder(path)
            .map(|()| Place::Unix(path.to_owned()))
            .map_err(|error| Failure::of(Code::UPSTREAM_UNREACHABLE, &error));
    }
    let parsed = url::Url::parse(url).map_err(|_| wrong("is not a URL"))?;
    let is_loopback = match parsed.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if parsed.scheme() != "http" || !is_loopback || !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(wrong("is not an address on this machine, and the guard token goes nowhere else"));
    }
    Ok(Place::Http(url.trim_end_matches('/').to_owned()))
}

fn escaped(profile: &CredentialName) -> String {
    profile.as_str().replace('/', "%2F")
}

/// The broker's problem document as a failure; none if it is no such document.
fn refusal(body: &[u8]) -> Option<Failure> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (named, detail) = (text("code")?, text("detail")?);
    let code = Code::ALL.iter().map(|(code, ..)| *code).find(|code| code.0 == named);
    let code = code.unwrap_or(Code::TOKEN_UNAVAILABLE);
    let mut failure = Failure::new(code, detail);
    if code == Code::NOT_FOUND {
        failure =
            failure.hint("a profile is the name of a [credential.NAME] in the configuration of `keyholder serve`");
    }
    for hint in body.get("hints").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        failure = failure.hint(hint);
    }
    Some(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked() {
        for (url, place) in [
            ("http://127.0.0.1:8082", "http://127.0.0.1:8082"),
            ("http://127.0.0.1:8082/", "http://127.0.0.1:8082"),
            ("http://localhost:1", "http://localhost:1"),
            ("http://[::1]:8082", "http://[::1]:8082"),
        ] {
            assert_eq!(parse(url).unwrap().to_string(), place);
        }
        for bad in [
            "http://example.com",
            "http://127.0.0.1.example.com",
            "https://127.0.0.1",
            "http://10.0.0.1:8082",
            "http://user@127.0.0.1",
            "unix:relative.sock",
            "unix:///a/b.sock",
            "unix:",
            "127.0.0.1:8082",
            "file:///etc/passwd",
            "",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_that_is_no_problem_document_is_nobodys_refusal() {
        let good = refusal(br#"{"code":"keyholder.not_found","detail":"no profile","hints":["another"]}"#).unwrap();
        assert_eq!((good.code(), good.detail()), (Code::NOT_FOUND, "no profile"));
        let newer = refusal(br#"{"code":"keyholder.of.tomorrow","detail":"not now"}"#).unwrap();
        assert_eq!((newer.code(), newer.detail()), (Code::TOKEN_UNAVAILABLE, "not now"));
        for foreign in ["", "<html>", "[]", "{}", r#"{"code":"keyholder.not_found"}"#, r#"{"detail":"no","code":""}"#] {
            assert!(refusal(foreign.as_bytes()).is_none(), "{foreign}");
        }
    }
}
