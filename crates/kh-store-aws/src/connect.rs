//! The official SDK's clients, one per region, and its credential providers, built from [`Settings`] alone.
//!
//! Invariants: nothing but credentials is taken from the process environment (no endpoint, no region); the SDK repeats
//! no call.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, default_provider::credentials::DefaultCredentialsChain,
    ecs::EcsCredentialsProvider, environment::EnvironmentVariableCredentialsProvider,
    imds::credentials::ImdsCredentialsProvider, profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig, sts::AssumeRoleProvider, web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_secretsmanager::{Client, config::retry::RetryConfig, config::timeout::TimeoutConfig};

use crate::{
    outage::Watched,
    settings::{AssumedRole, CredentialSource, Settings},
    transport::{SdkTime, Transport},
};

/// One account as one identity.
pub struct Account {
    settings: Settings,
    transport: Transport,
    credentials: SharedCredentialsProvider,
    regions: Mutex<HashMap<String, Client>>,
}

impl Account {
    /// Sets up the credential provider that `settings` name. Sends nothing: credentials are fetched with the first call.
    pub async fn new(settings: Settings, transport: Transport) -> Self {
        let credentials = provider(&settings, &transport).await;
        Self::with_provider(settings, transport, credentials).await
    }

    /// As [`Account::new`] with credentials of the caller's in place of [`Settings::credentials`].
    pub async fn with_provider(
        settings: Settings,
        transport: Transport,
        credentials: SharedCredentialsProvider,
    ) -> Self {
        let credentials = match &settings.role {
            Some(role) => assumed(role, &settings, &transport, credentials).await,
            None => credentials,
        };
        let credentials = SharedCredentialsProvider::new(Watched(credentials));
        Self { settings, transport, credentials, regions: Mutex::default() }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn credentials(&self) -> &SharedCredentialsProvider {
        &self.credentials
    }

    /// The client of a region; made once, so that what it learns about the clock's error stays.
    pub(crate) fn client(&self, region: &str) -> Client {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        regions.entry(region.to_owned()).or_insert_with(|| self.make_client(region)).clone()
    }

    fn make_client(&self, region: &str) -> Client {
        let mut config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(self.credentials.clone())
            .http_client(self.transport.clone())
            .time_source(SdkTime(self.transport.clock().clone()))
            // The SDK would repeat a write whose answer was lost, and a move of labels is then refused although it was
            // done. What became of a call is decided above, by looking.
            .retry_config(RetryConfig::disabled())
            // The transport has the limits.
            .timeout_config(TimeoutConfig::disabled());
        if self.settings.fips {
            config = config.use_fips(true);
        }
        if let Some(endpoint) = &self.settings.endpoint {
            config = config.endpoint_url(endpoint.replace("{region}", region));
        }
        Client::from_conf(config.build())
    }
}

/// What the providers need beside their own settings.
fn provider_config(settings: &Settings, transport: &Transport) -> ProviderConfig {
    ProviderConfig::without_region()
        .with_behavior_version(Some(BehaviorVersion::latest()))
        .with_region(Some(Region::new(settings.region.clone())))
        .with_use_fips(settings.fips.then_some(true))
        .with_time_source(SdkTime(transport.clock().clone()))
        .with_http_client(transport.clone())
}

async fn provider(settings: &Settings, transport: &Transport) -> SharedCredentialsProvider {
    let config = provider_config(settings, transport);
    match &settings.credentials {
        CredentialSource::Chain => {
            let region = Region::new(settings.region.clone());
            SharedCredentialsProvider::new(
                DefaultCredentialsChain::builder().region(region).configure(config).build().await,
            )
        }
        CredentialSource::Environment => SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()),
        CredentialSource::Profile(name) => SharedCredentialsProvider::new(
            ProfileFileCredentialsProvider::builder().configure(&config).profile_name(name).build(),
        ),
        CredentialSource::WebIdentity => {
            SharedCredentialsProvider::new(WebIdentityTokenCredentialsProvider::builder().configure(&config).build())
        }
        CredentialSource::Container => {
            SharedCredentialsProvider::new(EcsCredentialsProvider::builder().configure(&config).build())
        }
        CredentialSource::Machine => {
            SharedCredentialsProvider::new(ImdsCredentialsProvider::builder().configure(&config).build())
        }
    }
}

async fn assumed(
    role: &AssumedRole,
    settings: &Settings,
    transport: &Transport,
    base: SharedCredentialsProvider,
) -> SharedCredentialsProvider {
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(settings.region.clone()))
        .time_source(SdkTime(transport.clock().clone()))
        .http_client(transport.clone())
        .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new());
    config.set_use_fips(settings.fips.then_some(true));
    config.set_endpoint_url(settings.token_endpoint.clone());
    let mut builder =
        AssumeRoleProvider::builder(&role.arn).session_name(&role.session_name).configure(&config.build());
    if let Some(id) = &role.external_id {
        builder = builder.external_id(id);
    }
    SharedCredentialsProvider::new(builder.build_from_provider(base).await)
}
