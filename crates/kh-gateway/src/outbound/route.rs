//! Which of keyholder's own endpoints a path means, or where in it the platform's path begins. Own endpoints and the
//! Genesys Cloud API are found under any prefix, because official SDKs can be given one (`path_params_login`,
//! `path_params_api`).

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `{prefix}/oauth/token`: client credentials.
    OauthToken,
    /// `{prefix}/oauth/revoke`: RFC 7009.
    OauthRevoke,
    /// `{prefix}/oauth/introspect`: RFC 7662.
    OauthIntrospect,
    /// `{prefix}/oauth/jwks`: the keys that verify keyholder's JWTs.
    OauthKeys,
    /// `/.well-known/oauth-authorization-server`, before or behind the issuer's path: RFC 8414.
    AuthorizationServer,
    /// `{prefix}/keyholder/events/NAME`: what platforms tell of their tokens.
    Events,
    /// `{prefix}/auth/token`: CXone's password grant.
    CxoneToken,
    /// `{prefix}/authentication/v1/token/access-key`: CXone's regional login.
    CxoneAccessKey,
    /// `{prefix}/auth/jwks`: no keys, the tokens of stand-ins for CXone's clients are opaque.
    Jwks,
    /// `{prefix}/.well-known/openid-configuration`.
    OpenidConfiguration,
    /// `{prefix}/.well-known/cxone-configuration`.
    CxoneConfiguration,
    /// The Genesys Cloud API, which begins at this byte; `tokens_me` says that it is `/api/v2/tokens/me`.
    Genesys {
        /// Length of the prefix.
        prefix: usize,
        /// Whether keyholder answers it itself.
        tokens_me: bool,
    },
    /// Everything else.
    Other,
}

impl Route {
    /// Whether its callers expect the errors of RFC 6749 section 5.2.
    pub(crate) fn has_oauth_errors(self) -> bool {
        self.is_login() || matches!(self, Self::OauthRevoke | Self::OauthIntrospect)
    }

    /// Whether its callers log in.
    pub(crate) fn is_login(self) -> bool {
        matches!(self, Self::OauthToken | Self::CxoneToken | Self::CxoneAccessKey)
    }

    /// Its path without a prefix, for logs and metrics. Nothing that a caller chose: `{name}` stands for one segment, `**` for any.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::OauthToken => "/oauth/token",
            Self::OauthRevoke => "/oauth/revoke",
            Self::OauthIntrospect => "/oauth/introspect",
            Self::OauthKeys => "/oauth/jwks",
            Self::AuthorizationServer => AUTHORIZATION_SERVER,
            Self::Events => "/keyholder/events/{name}",
            Self::CxoneToken => "/auth/token",
            Self::CxoneAccessKey => "/authentication/v1/token/access-key",
            Self::Jwks => "/auth/jwks",
            Self::OpenidConfiguration => "/.well-known/openid-configuration",
            Self::CxoneConfiguration => "/.well-known/cxone-configuration",
            Self::Genesys { tokens_me: true, .. } => "/api/v2/tokens/me",
            Self::Genesys { tokens_me: false, .. } => "/api/v2/**",
            Self::Other => "/**",
        }
    }
}

/// RFC 8414 section 3.1.
pub(crate) const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";

const OWN: [(&str, Route); 10] = [
    ("/oauth/token", Route::OauthToken),
    ("/oauth/revoke", Route::OauthRevoke),
    ("/oauth/introspect", Route::OauthIntrospect),
    ("/oauth/jwks", Route::OauthKeys),
    (AUTHORIZATION_SERVER, Route::AuthorizationServer),
    ("/auth/token", Route::CxoneToken),
    ("/authentication/v1/token/access-key", Route::CxoneAccessKey),
    ("/auth/jwks", Route::Jwks),
    ("/.well-known/openid-configuration", Route::OpenidConfiguration),
    ("/.well-known/cxone-configuration", Route::CxoneConfiguration),
];

const API: &str = "/api/v2/";

/// The route of a canonical path.
pub(crate) fn route(path: &str) -> Route {
    let prefix = if path.starts_with(API) { Some(0) } else { path.find(API) };
    let Some(prefix) = prefix else {
        let own = OWN.iter().find(|(suffix, _)| path.ends_with(suffix)).map(|(_, route)| *route);
        let inserted = || path.strip_prefix(AUTHORIZATION_SERVER).is_some_and(|rest| rest.starts_with('/'));
        let otherwise = || if is_event(path) { Route::Events } else { Route::Other };
        return own.unwrap_or_else(|| if inserted() { Route::AuthorizationServer } else { otherwise() });
    };
    let rest = path.get(prefix + API.len()..).unwrap_or_default();
    Route::Genesys { prefix, tokens_me: matches!(rest, "tokens/me" | "tokens/me/") }
}

/// Whether a path ends in `/keyholder/events/NAME`.
fn is_event(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(before, name)| before.ends_with("/keyholder/events") && !name.is_empty())
}

/// What stands before an own endpoint's suffix.
pub(crate) fn prefix_of(path: &str) -> &str {
    OWN.iter().find_map(|(suffix, _)| path.strip_suffix(suffix)).unwrap_or_default()
}

/// Whether a path belongs to CXone's account host (`auth_endpoint`) rather than to its API host.
pub(crate) fn is_cxone_account(path: &str) -> bool {
    ["/access-key-management/", "/public/", "/authentication/", "/auth/", "/user-management/"]
        .iter()
        .any(|start| path.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for (path, expected) in [
            ("/oauth/token", Route::OauthToken),
            ("/login/eu/oauth/token", Route::OauthToken),
            ("/oauth/token/", Route::Other),
            ("/xoauth/token", Route::Other),
            ("/oauth/revoke", Route::OauthRevoke),
            ("/p/oauth/introspect", Route::OauthIntrospect),
            ("/oauth/jwks", Route::OauthKeys),
            ("/keyholder/events/main", Route::Events),
            ("/p/keyholder/events/main", Route::Events),
            ("/keyholder/events/", Route::Other),
            ("/keyholder/events", Route::Other),
            ("/xkeyholder/events/main", Route::Other),
            ("/keyholder/events/main/x", Route::Other),
            ("/.well-known/oauth-authorization-server", Route::AuthorizationServer),
            ("/p/.well-known/oauth-authorization-server", Route::AuthorizationServer),
            ("/.well-known/oauth-authorization-server/p/q", Route::AuthorizationServer),
            ("/.well-known/oauth-authorization-serverx", Route::Other),
            ("/auth/token", Route::CxoneToken),
            ("/p/auth/token", Route::CxoneToken),
            ("/authentication/v1/token/access-key", Route::CxoneAccessKey),
            ("/p/.well-known/openid-configuration", Route::OpenidConfiguration),
            ("/.well-known/cxone-configuration", Route::CxoneConfiguration),
            ("/auth/jwks", Route::Jwks),
            ("/api/v2/users", Route::Genesys { prefix: 0, tokens_me: false }),
            ("/api-path/api/v2/users", Route::Genesys { prefix: 9, tokens_me: false }),
            ("/api/v2/x/api/v2/tokens/me", Route::Genesys { prefix: 0, tokens_me: false }),
            ("/g/api/v2/tokens/me", Route::Genesys { prefix: 2, tokens_me: true }),
            ("/api/v2/tokens/me/", Route::Genesys { prefix: 0, tokens_me: true }),
            ("/api/v2/tokens/timeout", Route::Genesys { prefix: 0, tokens_me: false }),
            ("/api/v2", Route::Other),
            ("/inContactAPI/services/v34.0/agents", Route::Other),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
        for (path, oauth_errors, login) in [
            ("/login/eu/oauth/token", true, true),
            ("/auth/token", true, true),
            ("/p/oauth/revoke", true, false),
            ("/oauth/introspect", true, false),
            ("/auth/jwks", false, false),
        ] {
            assert_eq!((route(path).has_oauth_errors(), route(path).is_login()), (oauth_errors, login), "{path}");
        }
        assert_eq!(prefix_of("/login/eu/oauth/token"), "/login/eu");
        assert!(is_cxone_account("/access-key-management/v1/access-keys") && !is_cxone_account("/inContactAPI/x"));
    }

    #[test]
    fn templates_are_the_paths_of_their_routes() {
        for (suffix, own) in OWN {
            assert_eq!((own.template(), route(suffix)), (suffix, own));
        }
        for (path, expected) in [
            ("/p/keyholder/events/main", "/keyholder/events/{name}"),
            ("/p/api/v2/tokens/me/", "/api/v2/tokens/me"),
            ("/p/api/v2/users/jane", "/api/v2/**"),
            ("/inContactAPI/services/v34.0/agents", "/**"),
        ] {
            assert_eq!(route(path).template(), expected, "{path}");
        }
    }
}
