//! Tokens that are bound to their sender: by the certificate of the connection (RFC 8705), by a proof of the request
//! (RFC 9449). Each way in has its negative twin.

mod by_certificate;
mod by_key;

use std::sync::LazyLock;

use base64::Engine;
use kh_core::Sha256;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::holder::{Authority, Holder, Key, base64url, now, private};

/// The regional authority, one for all tenants, and two of the clients that it vouches for.
static REGION: LazyLock<Authority> = LazyLock::new(|| Authority::new("region"));
static OURS: LazyLock<Holder> = LazyLock::new(|| REGION.issue("ours.example"));
static THEIRS: LazyLock<Holder> = LazyLock::new(|| REGION.issue("theirs.example"));

/// What the token `of-certificate` is bound to.
pub(super) fn of_certificate() -> Confirmation {
    Confirmation::X5tS256(Sha256::of(&OURS.0).0)
}

static KEY: LazyLock<Key> = LazyLock::new(Key::new);
static OTHER_KEY: LazyLock<Key> = LazyLock::new(Key::new);

/// What the token `of-key` is bound to.
pub(super) fn of_key() -> Confirmation {
    Confirmation::Jkt(KEY.thumbprint().0)
}

/// The claims of a good proof for `of-key`, with others in their place.
fn claims(method: &str, address: &str, other: &Value) -> Value {
    crate::holder::claims(method, address, Some("of-key"), other)
}
