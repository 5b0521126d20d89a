//! `keyholder check` of the gateway's certificate: whether it can be used, and for how long.

use kh_core::{Clock, Code, SystemClock};
use serde::Serialize;

use crate::{
    cli::Loaded,
    compose::{Standing, certificate},
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
        let (validity, now) =
            (certificate(&tls.cert, &tls.key, &loaded.paths)?.validity, SystemClock::new().now().wall);
        let problem = validity.problem(now).map(|problem| format!("the certificate {} {problem}", tls.cert.display()));
        Ok(Some(Self { not_after: validity.end(), standing: validity.standing(now), problem }))
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
