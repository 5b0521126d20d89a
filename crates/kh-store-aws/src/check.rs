//! A look before a rotation, without a change.
//!
//! Invariant: nothing sent from here can change anything. Whether a value may be written cannot be asked of Secrets
//! Manager without writing one; that a label may be moved is tried with a version that does not exist.

use kh_core::{
    port::{
        TargetError,
        secret_target::{Right, TargetCheck},
    },
    rotation::{SecretPath, VersionId},
};

use crate::{
    calls::{AWS_PENDING, CURRENT, Described, PENDING},
    failure::Failure,
    store::AwsStore,
};

/// No version has it: versions are named by random or derived ids, and this is the nil one.
const NO_VERSION: &str = "00000000-0000-0000-0000-000000000000";

impl AwsStore {
    pub(crate) async fn look(&self, path: &SecretPath) -> Result<TargetCheck, TargetError> {
        let found = match self.calls.describe(path.as_str()).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let warnings = name_warning(path);
                return Ok(TargetCheck { live: None, read: Right::Unknown, write: Right::Unknown, warnings });
            }
            Err(Failure::Denied(text)) => {
                let warnings = vec![format!("the secret cannot be looked at: {text}")];
                return Ok(TargetCheck { live: None, read: Right::Denied, write: Right::Unknown, warnings });
            }
            Err(other) => return Err(other.at(path)),
        };
        let read = match self.calls.current(path.as_str()).await {
            Ok(_) => Right::Granted,
            Err(Failure::Denied(_)) => Right::Denied,
            // Nothing is live, or it is marked for deletion.
            Err(Failure::NotFound | Failure::State(_)) => Right::Unknown,
            Err(other) => return Err(other.at(path)),
        };
        let write = match self.calls.move_label(path.as_str(), PENDING, Some(NO_VERSION), None).await {
            Err(Failure::Denied(_)) => Right::Denied,
            Ok(()) | Err(Failure::Parameter(_) | Failure::NotFound | Failure::State(_) | Failure::Refused(_)) => {
                Right::Unknown
            }
            Err(other) => return Err(other.at(path)),
        };
        let live = found.holder(CURRENT).map(|id| VersionId(id.to_owned()));
        let warnings = self.warnings(path, &found);
        Ok(TargetCheck { live, read, write, warnings })
    }

    fn warnings(&self, path: &SecretPath, found: &Described) -> Vec<String> {
        let mut warnings = name_warning(path);
        let region = &self.account.settings().region;
        if found.marked_for_deletion {
            warnings.push("the secret is marked for deletion".to_owned());
        }
        if found.rotated_by_aws {
            warnings.push("AWS' own rotation is switched on for this secret: two would rotate it".to_owned());
        }
        if let Some(owner) = &found.owner {
            warnings.push(format!("the secret is managed by {owner}, which may overwrite it"));
        }
        if let Some(primary) = found.primary.as_ref().filter(|primary| *primary != region) {
            warnings.push(format!("this is a copy; write to its primary in {primary}"));
        }
        let pending = found.holder(AWS_PENDING);
        if pending.is_some() && pending != found.holder(CURRENT) {
            warnings.push("a rotation by AWS itself was not finished (AWSPENDING is on another version)".to_owned());
        }
        if found.holder(PENDING).is_some() && found.holder(PENDING) != found.holder(CURRENT) {
            warnings.push("another version is staged (KH_PENDING); staging moves that label".to_owned());
        }
        for (copy, status) in &found.copies {
            if status != "InSync" {
                warnings.push(format!("the copy in {copy} is {status}"));
            }
        }
        warnings
    }
}

/// Service model, `CreateSecret`: a name that ends with a hyphen and six characters is taken for an incomplete ARN.
fn name_warning(path: &SecretPath) -> Vec<String> {
    let bytes = path.as_str().as_bytes();
    let hyphen = bytes.len().checked_sub(7).and_then(|at| bytes.get(at));
    let ending =
        bytes.get(bytes.len().saturating_sub(6)..).is_some_and(|end| end.iter().all(u8::is_ascii_alphanumeric));
    if hyphen == Some(&b'-') && ending {
        return vec![
            "the name ends with a hyphen and six characters, as an address does: AWS may mistake it".to_owned(),
        ];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_an_address_is_warned_of() {
        for (name, warned) in [("acme-abc123", true), ("acme-abcdefg", false), ("acme", false), ("a/b-12.456", false)] {
            assert_eq!(!name_warning(&name.parse().unwrap()).is_empty(), warned, "{name}");
        }
    }
}
