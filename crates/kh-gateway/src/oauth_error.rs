//! The errors of keyholder's OAuth endpoints: what stands in the member `error` of an answer (RFC 6749 section 5.2).
//!
//! Invariant: an endpoint can answer with no error that is not listed here, so whoever counts errors counts them all.

macro_rules! errors {
    ($($variant:ident, $code:literal, $source:literal;)*) => {
        /// What is wrong with a request to the token endpoint, or for a token to be revoked or introspected.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum OauthError {
            $(
                #[doc = $source]
                $variant,
            )*
        }

        impl OauthError {
            /// Every error.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The error as an answer has it.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }
    };
}

errors! {
    InvalidRequest, "invalid_request", "RFC 6749 section 5.2";
    InvalidClient, "invalid_client", "RFC 6749 section 5.2";
    InvalidGrant, "invalid_grant", "RFC 6749 section 5.2";
    UnauthorizedClient, "unauthorized_client", "RFC 6749 section 5.2";
    UnsupportedGrantType, "unsupported_grant_type", "RFC 6749 section 5.2";
    InvalidScope, "invalid_scope", "RFC 6749 section 5.2";
    AccessDenied, "access_denied", "RFC 6749 section 4.1.2.1, for introspection";
    TemporarilyUnavailable, "temporarily_unavailable", "RFC 6749 section 4.1.2.1";
    UnsupportedTokenType, "unsupported_token_type", "RFC 7009 section 2.2.1";
    InvalidDpopProof, "invalid_dpop_proof", "RFC 9449 section 5";
    UseDpopNonce, "use_dpop_nonce", "RFC 9449 section 8";
}
