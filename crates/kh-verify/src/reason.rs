//! Why a token is refused: the published list. `docs/reference/token-reasons.md` is made from it.
//!
//! Invariant: a reason names what is wrong and never repeats what the token says.

macro_rules! reasons {
    ($($variant:ident, $code:literal, $meaning:literal;)*) => {
        /// Why a token, or a proof beside it, is refused. Codes are stable: logs, metrics and scripts rely on them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
        pub enum Reason {
            $(
                #[doc = $meaning]
                #[error($meaning)]
                $variant,
            )*
        }

        impl Reason {
            /// Every reason, in the published order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable code.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }
    };
}

reasons! {
    TooLarge, "too_large", "the token is longer than 16,384 bytes";
    Malformed, "malformed", "not three parts of canonical base64url without padding";
    Encrypted, "encrypted", "five parts: an encrypted token (JWE), which is not taken";
    HeaderInvalid, "header_invalid", "the header is not a JSON object with distinct members of the right types";
    CriticalHeader, "critical_header", "the header has `crit`, and no extension is known";
    UnencodedPayload, "unencoded_payload", "the header has `b64` (RFC 7797)";
    Compressed, "compressed", "the header has `zip`";
    NestedToken, "nested_token", "the header's `cty` says that the payload is another token";
    AlgorithmNone, "algorithm_none", "the header's `alg` says that the token is not signed";
    AlgorithmUnknown, "algorithm_unknown", "the header's `alg` is no known signature algorithm";
    AlgorithmNotAllowed, "algorithm_not_allowed", "the header's `alg` is not on the list of this issuer";
    TypeRefused, "type_refused", "the header's `typ` is not that of an access token";
    KeyUnknown, "key_unknown", "the issuer has no key of the name in the header's `kid`";
    KeyMissing, "key_missing", "the token names no key, and the issuer has none for its algorithm";
    KeyUnfit, "key_unfit", "the key named in the header's `kid`, or the one key there is, is not for the algorithm in `alg`";
    KeyUnusable, "key_unusable", "no key that was given can be used: its type, `alg`, `use`, `key_ops` or size forbids it";
    SignatureInvalid, "signature_invalid", "the signature is not that of the named key";
    SignatureUnmatched, "signature_unmatched", "the token names no key, and the signature is that of none of the issuer's";
    ClaimsInvalid, "claims_invalid", "the payload is not a JSON object with distinct members of the right types";
    ClaimsTooLarge, "claims_too_large", "the claims are more than an identity may hold";
    IssuerMissing, "issuer_missing", "there is no `iss`";
    IssuerRefused, "issuer_refused", "`iss` is not the issuer";
    AudienceMissing, "audience_missing", "there is no `aud`";
    AudienceRefused, "audience_refused", "`aud` names others";
    ExpiryMissing, "expiry_missing", "there is no `exp`";
    Expired, "expired", "`exp` has passed";
    NotYetValid, "not_yet_valid", "`nbf` is yet to come";
    IssuedAtMissing, "issued_at_missing", "there is no `iat`, and it is needed";
    IssuedInFuture, "issued_in_future", "`iat` is yet to come";
    TooOld, "too_old", "`iat` is longer ago than a token may be old";
    SubjectMissing, "subject_missing", "there is no `sub`, and it is needed";
    ClientMissing, "client_missing", "there is no `client_id`, and it is needed";
    TokenIdMissing, "token_id_missing", "there is no `jti`, and it is needed";
    ScopeInvalid, "scope_invalid", "`scope` or `scp` has what no scope can have";
    ConfirmationUnsupported, "confirmation_unsupported", "`cnf` binds the token by something that cannot be checked";
    CertificateMissing, "certificate_missing", "the token is bound to a certificate, and the connection has none";
    CertificateMismatch, "certificate_mismatch", "the token is bound to another certificate than the connection's";
    ProofMissing, "proof_missing", "the token is bound to a DPoP key, and no proof came with it";
    ProofUnbound, "proof_unbound", "the token came with a DPoP proof but is not bound to a key";
    ProofMalformed, "proof_malformed", "the DPoP proof is not one well-formed JWT of type `dpop+jwt`";
    ProofAlgorithm, "proof_algorithm", "the DPoP proof's `alg` is none of those taken";
    ProofKey, "proof_key", "the DPoP proof's `jwk` is no public key for its `alg`";
    ProofSignature, "proof_signature", "the DPoP proof is not signed by its `jwk`";
    ProofClaims, "proof_claims", "the DPoP proof lacks `jti`, `htm`, `htu` or `iat`, or has them wrong";
    ProofMethod, "proof_method", "the DPoP proof's `htm` is another method";
    ProofUri, "proof_uri", "the DPoP proof's `htu` is another address";
    ProofTime, "proof_time", "the DPoP proof's `iat` is too far from now";
    ProofTokenHash, "proof_token_hash", "the DPoP proof's `ath` is not of this token";
    ProofKeyMismatch, "proof_key_mismatch", "the DPoP proof's key is not the one that the token is bound to";
    ProofNonce, "proof_nonce", "the DPoP proof has not the nonce that was asked for";
    ProofReplayed, "proof_replayed", "the DPoP proof was seen before";
    ProofUnremembered, "proof_unremembered", "there is no room to remember the DPoP proof";
    BadInput, "bad_input", "a line of a batch is not a JSON object with a token and at most one kind of key";
}

impl Reason {
    /// Whether newer keys of the issuer could make the token good. Whoever fetches them does so at most once in a while,
    /// because anybody can make up tokens with this reason.
    pub fn wants_fresh_keys(self) -> bool {
        matches!(self, Self::KeyUnknown | Self::KeyMissing | Self::SignatureUnmatched)
    }
}

/// The page of the reference that lists the reasons.
pub fn reference() -> String {
    let mut page = String::from(
        "# Why a token is refused\n\nMade by `keyholder docs token-reasons`. A refused token has one of these reasons. The codes are stable;\n\
         `keyholder token verify` answers with them.\n\n\
         | code | meaning |\n|---|---|\n",
    );
    let row = |reason: &Reason| format!("| `{}` | {reason} |\n", reason.as_str());
    page.extend(Reason::ALL.iter().map(row));
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_of_one_form() {
        let codes: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }

    #[test]
    fn the_reference_page_is_in_step() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/token-reasons.md");
        let written = std::fs::read_to_string(page).unwrap_or_default();
        assert!(written == reference(), "run: cargo xtask docs");
    }

    #[test]
    fn only_a_missing_key_asks_for_fresh_ones() {
        let asking: Vec<&str> =
            Reason::ALL.iter().filter(|reason| reason.wants_fresh_keys()).map(|reason| reason.as_str()).collect();
        assert_eq!(asking, ["key_unknown", "key_missing", "signature_unmatched"]);
    }
}
