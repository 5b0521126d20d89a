//! `kind = "aws"`. The SDK sets its credential providers up in a future, so the store is made at its first use.

use std::{sync::Arc, time::Duration};

use kh_core::port::{SecretTarget, rotation_journal::LEASE_MAX, secret_target::TargetTraits};
use kh_platform::Timeouts;
use kh_rotation::Policy;
use kh_rotator::session::call_timeout;
use kh_store_aws::{Account, AssumedRole, AwsStore, CredentialSource, Settings, Settle, Transport, VALUE_MAX};

use super::{Parts, lazy::Lazy};
use crate::{
    config::{CALL_MIN, SecretStoreDetail},
    output::Failure,
};

/// How the assumed role's session is called in CloudTrail.
const SESSION: &str = "keyholder";

/// How long one wait for copies in other regions may take: a promotion waits twice, and the last third of the call's time
/// is for its reads and changes.
fn copies_within(call_max: Option<Duration>) -> Duration {
    let usual = Policy::default();
    let call_bound = call_max.unwrap_or(usual.call_bound).clamp(CALL_MIN, LEASE_MAX);
    call_timeout(&Policy { call_bound, ..usual }) / 3
}

pub(super) fn target(detail: &SecretStoreDetail, parts: &Parts<'_>) -> Result<Arc<dyn SecretTarget>, Failure> {
    let SecretStoreDetail::Aws { region, profile, role_arn, external_id, endpoint } = detail else {
        return Err(Failure::bug("a store of another kind"));
    };
    let settings = Settings {
        credentials: profile.clone().map_or(CredentialSource::Chain, CredentialSource::Profile),
        role: role_arn.clone().map(|arn| AssumedRole {
            arn,
            external_id: external_id.clone(),
            session_name: SESSION.to_owned(),
        }),
        endpoint: endpoint.as_ref().map(|endpoint| endpoint.text().to_owned()),
        settle: Settle { copies: copies_within(parts.loaded.config.rotation.call_max), ..Settle::default() },
        ..Settings::new(region)
    };
    let transport = Transport::new(Arc::clone(&parts.egress), Timeouts::default(), Arc::clone(parts.clock));
    let traits = TargetTraits { kind: "aws", compare_and_set: true, value_bytes_max: VALUE_MAX, replicas: true };
    Ok(Arc::new(Lazy::new(traits, move || {
        let (settings, transport) = (settings.clone(), transport.clone());
        Box::pin(async move {
            let account = Account::new(settings, transport).await;
            Ok(Arc::new(AwsStore::new(Arc::new(account))) as Arc<dyn SecretTarget>)
        })
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promotion_has_time_for_both_of_its_waits_and_for_its_calls() {
        assert_eq!(copies_within(None), Settle::default().copies);
        for (call_max, within) in [(5, 3_333), (20, 3_333), (120, 20_000), (3_600, 600_000)] {
            let found = copies_within(Some(Duration::from_secs(call_max)));
            assert_eq!(found.as_millis(), within, "{call_max} s");
        }
    }
}
