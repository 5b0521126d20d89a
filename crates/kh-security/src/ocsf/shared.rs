//! Objects of the schema that several classes share.
//!
//! Invariant: a field that is not known is left out, never written as null or as a guess.

use std::net::IpAddr;

use kh_core::port::security::{AuthenticationEvent, Told};
use serde::Serialize;

use super::{EventId, VERSION};
use crate::geo::Place;

#[derive(Serialize)]
pub(super) struct Metadata {
    version: &'static str,
    product: Product,
    log_name: &'static str,
    uid: String,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_uid: Option<String>,
}

#[derive(Serialize)]
struct Product {
    name: &'static str,
    vendor_name: &'static str,
    version: &'static str,
}

impl Metadata {
    /// `correlation_uid` is the id of the request's trace.
    pub(super) fn new(id: EventId, correlation_uid: Option<String>) -> Self {
        Self {
            version: VERSION,
            product: Product { name: "keyholder", vendor_name: "keyholder", version: env!("CARGO_PKG_VERSION") },
            log_name: "security",
            uid: id.to_string(),
            sequence: id.sequence,
            correlation_uid,
        }
    }
}

#[derive(Serialize)]
pub(super) struct User<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    #[serde(rename = "type")]
    kind: &'static str,
    type_id: u8,
}

impl<'a> User<'a> {
    /// Who it is about. A client that speaks for itself is its own subject (RFC 9068 section 2.2).
    pub(super) fn of(subject: Option<&'a Told>, client: Option<&'a Told>) -> Self {
        let (subject, client) = (subject.map(Told::as_str), client.map(Told::as_str));
        let uid = subject.or(client);
        let (kind, type_id) = match (subject, client) {
            (Some(subject), Some(client)) if subject != client => ("User", 1),
            (Some(_) | None, Some(_)) => ("Service", 4),
            (Some(_) | None, None) => ("Unknown", 0),
        };
        // the schema wants a name or an id
        Self { uid, name: uid.is_none().then_some("unknown"), kind, type_id }
    }
}

#[derive(Serialize)]
pub(super) struct Actor<'a> {
    app_uid: &'a str,
}

impl<'a> Actor<'a> {
    pub(super) fn of(client: Option<&'a Told>) -> Option<Self> {
        client.map(|client| Self { app_uid: client.as_str() })
    }
}

#[derive(Serialize)]
pub(super) struct Endpoint<'a> {
    ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    autonomous_system: Option<AutonomousSystem<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    intermediate_ips: Vec<IpAddr>,
}

#[derive(Serialize)]
struct Location<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    city: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lat: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    long: Option<f64>,
}

#[derive(Serialize)]
struct AutonomousSystem<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl<'a> Endpoint<'a> {
    /// The client's end, with the proxy in between if there is one.
    pub(super) fn of(event: &AuthenticationEvent, place: &'a Place) -> Option<Self> {
        let ip = event.client_address.map(|client| client.ip).or(event.peer)?;
        let intermediate_ips = event.peer.filter(|peer| *peer != ip).into_iter().collect();
        Some(Self { intermediate_ips, ..Self::at(ip, place) })
    }

    /// An address at a place.
    pub(super) fn at(ip: IpAddr, place: &'a Place) -> Self {
        // the schema wants a country, a region or a city in a location
        let named = place.country.is_some() || place.region.is_some() || place.city.is_some();
        let location = named.then(|| Location {
            country: place.country.as_ref().map(crate::geo::Country::as_str),
            region: place.region.as_ref().map(Told::as_str),
            city: place.city.as_ref().map(Told::as_str),
            lat: place.position.map(|at| at.latitude),
            long: place.position.map(|at| at.longitude),
        });
        let known = place.asn.is_some() || place.operator.is_some();
        let autonomous_system =
            known.then(|| AutonomousSystem { number: place.asn, name: place.operator.as_ref().map(Told::as_str) });
        Self { ip, location, autonomous_system, intermediate_ips: Vec::new() }
    }
}
