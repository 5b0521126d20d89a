//! `kind = "lambda"`. The SDK sets its credential providers up in a future, so the hook is made at its first call.
//!
//! Invariant: what can be wrong with the section is told when it is read, before anything is rotated.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Code,
    credential::CredentialDocument,
    port::{
        BoxFuture, DeliveryHook,
        delivery::{HookError, Promotion},
    },
};
use kh_deliver::TIMEOUT_DEFAULT;
use kh_net::http::Timeouts;
use kh_store_aws::{Account, CredentialSource, Settings, Settle, Transport, lambda::LambdaRefresh};
use tokio::sync::OnceCell;

use super::Parts;
use crate::{
    config::{HookConfig, HookDetail},
    environment::Environment,
    output::Failure,
};

/// Where the region stands that the section does not name (AWS SDKs and Tools Reference Guide, "AWS Region").
const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

pub(super) fn hook(
    name: &str,
    config: &HookConfig,
    environment: &Environment,
    parts: &Parts<'_>,
) -> Result<Arc<dyn DeliveryHook>, Failure> {
    let HookDetail::Lambda { function, region, profile, endpoint } = &config.detail else {
        return Err(Failure::bug("a hook of another kind"));
    };
    LambdaRefresh::check(function).map_err(|error| parts.wrong(&error))?;
    let told = REGION.iter().find_map(|variable| environment.text(variable));
    let Some(region) = region.clone().or(told) else {
        return Err(Failure::new(
            Code::CONFIG_INVALID,
            format!("{} does not say in which region it is", parts.section),
        )
        .hint("write region = \"eu-central-1\", or set AWS_REGION"));
    };
    let within = parts.within(config, TIMEOUT_DEFAULT);
    let looks = within.as_millis() / Settle::default().pause.as_millis().max(1);
    let settings = Settings {
        credentials: profile.clone().map_or(CredentialSource::Chain, CredentialSource::Profile),
        endpoint: endpoint.as_ref().map(|endpoint| endpoint.text().to_owned()),
        settle: Settle { updates: u32::try_from(looks).unwrap_or(u32::MAX), ..Settle::default() },
        ..Settings::new(&region)
    };
    let usual = Timeouts::default();
    let timeouts = Timeouts { total: parts.within(config, usual.total), ..usual };
    let transport = Transport::new(Arc::clone(&parts.egress), timeouts, Arc::clone(parts.clock));
    Ok(Arc::new(Lazy {
        name: name.to_owned(),
        function: function.clone(),
        settings,
        transport,
        within,
        made: OnceCell::new(),
    }))
}

/// A [`LambdaRefresh`] that is made when it is first called.
struct Lazy {
    name: String,
    function: String,
    settings: Settings,
    transport: Transport,
    within: Duration,
    made: OnceCell<LambdaRefresh>,
}

impl Lazy {
    async fn refresh(&self) -> Result<&LambdaRefresh, HookError> {
        let make = || async {
            let account = Account::new(self.settings.clone(), self.transport.clone()).await;
            LambdaRefresh::new(&self.name, &self.function, Arc::new(account))
        };
        self.made.get_or_try_init(make).await.map_err(|error| HookError::Refused(error.to_string()))
    }
}

impl DeliveryHook for Lazy {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        LambdaRefresh::description(&self.function)
    }

    fn deliver<'a>(
        &'a self,
        promotion: &'a Promotion,
        document: &'a CredentialDocument,
    ) -> BoxFuture<'a, Result<String, HookError>> {
        Box::pin(async move {
            let refreshing = async { self.refresh().await?.deliver(promotion, document).await };
            let elapsed = |_| HookError::Transient(format!("{} did not start anew in time", self.function));
            tokio::time::timeout(self.within, refreshing).await.map_err(elapsed)?
        })
    }
}
