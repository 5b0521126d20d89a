//! Where an address is: country, city and network operator, from databases in MaxMind's format.
//!
//! A database is read into memory whole: its cost is the file's size (a city database has some 60 to 120 MiB, country
//! and operator some 10 MiB each), twice while a new one is taken up. Mapping the file would cost less, but a file that is
//! changed under a map is undefined behaviour.
//!
//! Invariants: a look-up never waits and never fails, it knows less; a new file takes the old one's place only after all
//! of it was checked; a file that is being written, broken or gone changes nothing.

mod database;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use kh_core::port::security::Told;
use maxminddb::geoip2;
use tokio_util::sync::CancellationToken;

use self::database::Database;
pub use self::database::{DATABASE_MAX, Kind, examine};
use crate::{address::is_public, counters::Counters};

/// How often the files are looked at. MaxMind publishes twice a week; a look costs one system call a file.
pub const LOOK_EVERY: Duration = Duration::from_mins(1);

/// What is known of an address; nothing, for a private or unknown one.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Place {
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<Country>,
    /// The subdivision's code of ISO 3166-2 without its country, for example `CA`.
    pub region: Option<Told>,
    /// The city's English name.
    pub city: Option<Told>,
    /// Latitude and longitude in degrees (WGS 84), and the radius in km within which the address most likely is.
    pub position: Option<Position>,
    /// The number of the autonomous system.
    pub asn: Option<u32>,
    /// Who runs it.
    pub operator: Option<Told>,
}

/// Two upper-case letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Country([u8; 2]);

impl Country {
    /// Of a code; anything but two ASCII letters is none.
    pub fn new(code: &str) -> Option<Self> {
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_alphabetic).then(|| Self(code.map(|letter| letter.to_ascii_uppercase())))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("two ASCII letters are UTF-8")
    }
}

/// A place on earth.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Position {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// The database's own measure of its doubt, in km; zero where it tells none.
    pub radius_km: f64,
}

impl Position {
    /// Only numbers that are a place on earth.
    fn new(latitude: Option<f64>, longitude: Option<f64>, radius_km: Option<u16>) -> Option<Self> {
        let (latitude, longitude) = (latitude?, longitude?);
        let radius_km = f64::from(radius_km.unwrap_or(0));
        let on_earth = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        on_earth.then_some(Self { latitude, longitude, radius_km })
    }
}

/// The databases' files; each may be missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Files {
    /// A country database.
    pub country: Option<PathBuf>,
    /// A city database; it knows the country too.
    pub city: Option<PathBuf>,
    /// A database of autonomous systems.
    pub asn: Option<PathBuf>,
}

/// The databases.
#[derive(Debug)]
pub struct Geo {
    country: Option<Database>,
    city: Option<Database>,
    asn: Option<Database>,
}

impl Geo {
    /// Knows nothing until [`Geo::refresh`].
    pub fn new(files: Files, counters: &Counters) -> Self {
        if files == Files::default() {
            tracing::info!("no location database is configured; the security log tells addresses without places");
        }
        let database = |kind, path: Option<PathBuf>| path.map(|path| Database::new(kind, path, counters));
        Self {
            country: database(Kind::Country, files.country),
            city: database(Kind::City, files.city),
            asn: database(Kind::Asn, files.asn),
        }
    }

    /// Looks at every file and takes up those that have changed. Reads and checks whole files: call it on a thread that
    /// may block.
    pub fn refresh(&self) {
        for database in [&self.country, &self.city, &self.asn].into_iter().flatten() {
            database.refresh();
        }
    }

    /// Refreshes at once and then again and again, until `stop`.
    pub async fn watch(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        loop {
            let geo = Arc::clone(&self);
            // a panic in there has told itself, and the last good databases stay
            drop(tokio::task::spawn_blocking(move || geo.refresh()).await);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// What is known of `ip`.
    pub fn look_up(&self, ip: IpAddr) -> Place {
        let mut place = Place::default();
        let ip = ip.to_canonical();
        if !is_public(ip) {
            return place;
        }
        // a record of another form than expected is no record
        if let Some(reader) = self.city.as_ref().and_then(Database::current)
            && let Ok(Some(city)) = reader.lookup(ip).and_then(|found| found.decode::<geoip2::City<'_>>())
        {
            place.country = city.country.iso_code.and_then(Country::new);
            place.region = city.subdivisions.first().and_then(|first| first.iso_code).map(Told::new);
            place.city = city.city.names.english.map(Told::new);
            let at = city.location;
            place.position = Position::new(at.latitude, at.longitude, at.accuracy_radius);
        }
        if place.country.is_none()
            && let Some(reader) = self.country.as_ref().and_then(Database::current)
            && let Ok(Some(country)) = reader.lookup(ip).and_then(|found| found.decode::<geoip2::Country<'_>>())
        {
            place.country = country.country.iso_code.and_then(Country::new);
        }
        if let Some(reader) = self.asn.as_ref().and_then(Database::current)
            && let Ok(Some(asn)) = reader.lookup(ip).and_then(|found| found.decode::<geoip2::Asn<'_>>())
        {
            place.asn = asn.autonomous_system_number;
            place.operator = asn.autonomous_system_organization.map(Told::new);
        }
        place
    }
}

#[cfg(test)]
mod tests;
