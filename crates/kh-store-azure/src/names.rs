//! A place in terms of Key Vault: the name of the live secret and of the staged one.
//!
//! Source: learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates (names of 1 to 127 characters,
//! letters, digits and hyphens).

use kh_core::{port::TargetError, rotation::SecretPath};

/// End of the staged secret's name.
pub(crate) const STAGED: &str = "-kh-next";

/// Longest name of a secret.
const NAME_MAX: usize = 127;

/// The names behind a place.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) live: String,
    pub(crate) staged: String,
}

impl Names {
    /// Key Vault takes fewer letters than other stores; a place that does not fit is refused and never altered.
    pub(crate) fn of(path: &SecretPath) -> Result<Self, TargetError> {
        let unusable = |why: &str| Err(TargetError::Unusable(format!("{path} does not fit Key Vault: {why}")));
        let text = path.as_str();
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return unusable("its names have letters, digits and hyphens alone");
        }
        if text.len() + STAGED.len() > NAME_MAX {
            return unusable("with the ending of the staged secret it has more than 127 characters");
        }
        if is_staged(text) {
            return unusable("it ends like a staged secret's name");
        }
        Ok(Self { live: text.to_owned(), staged: format!("{text}{STAGED}") })
    }
}

/// Whether a secret of this name is a staged one. Key Vault does not tell upper from lower case in names.
pub(crate) fn is_staged(name: &str) -> bool {
    name.len() >= STAGED.len() && name.to_ascii_lowercase().ends_with(STAGED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_fit_and_places_that_do_not() {
        let names = Names::of(&"acme-Prod-1".parse().unwrap()).unwrap();
        assert_eq!((names.live.as_str(), names.staged.as_str()), ("acme-Prod-1", "acme-Prod-1-kh-next"));
        assert!(Names::of(&"x".repeat(119).parse().unwrap()).is_ok());
        let long = "x".repeat(120);
        for bad in ["kv/acme", "acme_prod", "acme.prod", "a@b", "acme-kh-next", "acme-KH-Next", &long] {
            let refused = Names::of(&bad.parse().unwrap()).unwrap_err();
            assert!(matches!(&refused, TargetError::Unusable(why) if why.contains(bad)), "{refused}");
        }
    }
}
