//! A Detection Finding (class 2004): an alert.
//!
//! Invariant: an alert says what was seen, by which rule, and what was compared; it accuses nobody.

use std::net::IpAddr;

use kh_core::{UnixMillis, port::security::Told};
use serde::Serialize;

use super::{
    EventId, append,
    shared::{Actor, Endpoint, Metadata, User},
};
use crate::geo::Place;

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FindingKind {
    /// Two successes of one subject were too far apart for the time between them.
    ImpossibleTravel,
    /// A success of a subject from a country that it never came from.
    NewCountry,
    /// The brute-force guard began to refuse somebody.
    BruteForce,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::ImpossibleTravel, Self::NewCountry, Self::BruteForce];

    /// Its name in logs, metrics and notices.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImpossibleTravel => "impossible_travel",
            Self::NewCountry => "new_country",
            Self::BruteForce => "brute_force",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::ImpossibleTravel => "Impossible travel",
            Self::NewCountry => "New country for a subject",
            Self::BruteForce => "Too many failed authentications",
        }
    }

    /// Name of the severity with its number, and the number of the confidence: a new country is often a journey, a speed
    /// that no aircraft has often a way out through another country.
    fn weight(self) -> (u8, &'static str, u8, &'static str) {
        match self {
            Self::ImpossibleTravel => (4, "High", 2, "Medium"),
            Self::NewCountry => (3, "Medium", 1, "Low"),
            Self::BruteForce => (3, "Medium", 3, "High"),
        }
    }
}

/// One alert.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// What was found.
    pub kind: FindingKind,
    /// When.
    pub at: UnixMillis,
    /// Whom it is about.
    pub subject: Option<Told>,
    /// By which client.
    pub client: Option<Told>,
    /// Where the newer of the two successes came from, or the failures.
    pub address: Option<IpAddr>,
    /// What is known of that address.
    pub place: Place,
    /// One sentence with the numbers.
    pub description: String,
}

#[derive(Serialize)]
struct Line<'a> {
    activity_id: u8,
    activity_name: &'static str,
    category_uid: u8,
    category_name: &'static str,
    class_uid: u16,
    class_name: &'static str,
    type_uid: u32,
    type_name: &'static str,
    time: u64,
    severity_id: u8,
    severity: &'static str,
    confidence_id: u8,
    confidence: &'static str,
    status_id: u8,
    status: &'static str,
    is_alert: bool,
    message: &'static str,
    metadata: Metadata,
    finding_info: FindingInfo<'a>,
    evidences: [Evidence<'a>; 1],
}

#[derive(Serialize)]
struct FindingInfo<'a> {
    uid: String,
    title: &'static str,
    desc: &'a str,
    types: [&'static str; 1],
    created_time: u64,
    analytic: Analytic,
}

#[derive(Serialize)]
struct Analytic {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    type_id: u8,
    uid: &'static str,
}

#[derive(Serialize)]
struct Evidence<'a> {
    user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Actor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_endpoint: Option<Endpoint<'a>>,
}

/// Appends the alert's line.
pub(crate) fn write(finding: &Finding, id: EventId, lines: &mut Vec<u8>) {
    let (severity_id, severity, confidence_id, confidence) = finding.kind.weight();
    let name = finding.kind.as_str();
    let line = Line {
        activity_id: 1,
        activity_name: "Create",
        category_uid: 2,
        category_name: "Findings",
        class_uid: 2004,
        class_name: "Detection Finding",
        type_uid: 200_401,
        type_name: "Detection Finding: Create",
        time: finding.at.0,
        severity_id,
        severity,
        confidence_id,
        confidence,
        status_id: 1,
        status: "New",
        is_alert: true,
        message: finding.kind.title(),
        metadata: Metadata::new(id, None),
        finding_info: FindingInfo {
            uid: id.to_string(),
            title: finding.kind.title(),
            desc: &finding.description,
            types: [name],
            created_time: finding.at.0,
            analytic: Analytic { name, kind: "Rule", type_id: 1, uid: name },
        },
        evidences: [Evidence {
            user: User::of(finding.subject.as_ref(), finding.client.as_ref()),
            actor: Actor::of(finding.client.as_ref()),
            src_endpoint: finding.address.map(|ip| Endpoint::at(ip, &finding.place)),
        }],
    };
    append(&line, lines);
}
