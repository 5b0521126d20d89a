//! `keyholder check` of the certificates of keyholder's own listeners: whether each can be used, and for how long.

use std::path::Path;

use kh_core::{Clock, Code, SystemClock};
use serde::Serialize;

use crate::{
    cli::Loaded,
    compose::{Standing, certificate},
    config::InboundTlsConfig,
    output::Failure,
};

/// What is known of a certificate that can be read.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Its last second.
    not_after: String,
    standing: Standing,
    #[serde(skip)]
    problem: Option<String>,
}

impl Report {
    /// Of the certificate that `loaded` names; none without one.
    pub(super) fn of(loaded: &Loaded) -> Result<Option<Self>, Failure> {
        let Some(tls) = &loaded.config.gateway.tls else { return Ok(None) };
        Self::of_files(&tls.cert, &tls.key, loaded).map(Some)
    }

    /// Of those of the admin listener and of the protected APIs that speak https, by section.
    pub(super) fn of_others(loaded: &Loaded) -> Vec<(String, Result<Self, Failure>)> {
        let apis = loaded.config.inbound.iter().filter_map(|(name, api)| Some((name, api.tls.as_ref()?)));
        let report = |(name, tls): (&String, &InboundTlsConfig)| {
            (format!("[inbound.{name}.tls]"), Self::of_files(&tls.cert, &tls.key, loaded))
        };
        let admin = loaded.config.admin.tls.iter();
        let admin = admin.map(|tls| ("[admin.tls]".to_owned(), Self::of_files(&tls.cert, &tls.key, loaded)));
        admin.chain(apis.map(report)).collect()
    }

    fn of_files(cert: &Path, key: &Path, loaded: &Loaded) -> Result<Self, Failure> {
        let (validity, now) = (certificate(cert, key, &loaded.paths)?.validity, SystemClock::new().now().wall);
        let problem = validity.problem(now).map(|problem| format!("the certificate {} {problem}", cert.display()));
        Ok(Self { not_after: validity.end(), standing: validity.standing(now), problem })
    }

    /// What nobody can work with.
    pub(super) fn usable(&self) -> Result<(), Failure> {
        match (&self.problem, self.standing) {
            (Some(problem), Standing::Expired | Standing::NotYetValid) => {
                Err(Failure::new(Code::CONFIG_INVALID, problem.clone()))
            }
            _ => Ok(()),
        }
    }

    /// What somebody should do something about.
    pub(super) fn warning(&self) -> Option<&str> {
        self.problem.as_deref().filter(|_| self.standing == Standing::ExpiresSoon)
    }
}
