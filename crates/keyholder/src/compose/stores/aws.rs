//! `kind = "aws"`. The SDK sets its credential providers up in a future, so the store is made at its first use.

use std::sync::Arc;

use kh_core::port::{SecretTarget, secret_target::TargetTraits};
use kh_platform::Timeouts;
use kh_store_aws::{Account, AssumedRole, AwsStore, CredentialSource, Settings, Transport, VALUE_MAX};

use super::{Parts, lazy::Lazy};
use crate::{config::SecretStoreDetail, output::Failure};

/// How the assumed role's session is called in CloudTrail.
const SESSION: &str = "keyholder";

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
