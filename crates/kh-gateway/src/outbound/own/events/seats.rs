//! Room for the bodies of senders that are known only by what they sent.
//!
//! Invariants: one address waits for a few bodies at a time, so that whoever sends slowly does not take the room of all
//! others; a place is given back however the wait for its body ends.

use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bodies that are held at once. Each may be 288 KiB, so 9 MiB in all.
const SEATS: usize = 32;

/// Of these, bodies of one address that did not come yet. A body comes with its head as a rule: of a busy platform,
/// too, few are on their way at once.
const AWAITED_MAX: usize = 4;

/// The seats of one gateway.
pub(super) struct Seats {
    free: Semaphore,
    /// Where each body comes from that did not come yet.
    awaited: Mutex<Vec<IpAddr>>,
}

impl Default for Seats {
    fn default() -> Self {
        Self { free: Semaphore::new(SEATS), awaited: Mutex::default() }
    }
}

impl Seats {
    /// A seat for a delivery, and its address's place while its body is awaited; none when all are taken. Without an
    /// address it came over a unix socket, whose callers are this machine's own.
    pub(super) fn take(&self, address: Option<IpAddr>) -> Option<(SemaphorePermit<'_>, Awaited<'_>)> {
        let seat = self.free.try_acquire().ok()?;
        let place = address.map(place);
        if let Some(place) = place {
            let mut awaited = self.awaited.lock();
            if awaited.iter().filter(|other| **other == place).count() >= AWAITED_MAX {
                return None;
            }
            awaited.push(place);
        }
        Some((seat, Awaited { of: &self.awaited, place }))
    }
}

/// The place of a body that is awaited.
pub(super) struct Awaited<'a> {
    of: &'a Mutex<Vec<IpAddr>>,
    place: Option<IpAddr>,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut awaited = self.of.lock();
        if let Some(index) = awaited.iter().position(|other| *other == place) {
            awaited.swap_remove(index);
        }
    }
}

/// An IPv4 address, or a /64 of IPv6, all of whose addresses one machine may use at will (RFC 4862, RFC 8981).
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(four) => IpAddr::V4(four),
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take<'a>(seats: &'a Seats, address: &str) -> Option<(SemaphorePermit<'a>, Awaited<'a>)> {
        seats.take(Some(address.parse().unwrap()))
    }

    #[test]
    fn an_address_waits_for_a_few_bodies_and_leaves_room_for_others() {
        let seats = Seats::default();
        for (slow, same, other) in [
            ("203.0.113.9", "::ffff:203.0.113.9", "203.0.113.10"),
            ("2001:db8::9", "2001:db8::ffff:0:0:1", "2001:db8:0:1::9"),
        ] {
            let mut held = Vec::new();
            for _ in 0..AWAITED_MAX {
                held.push(take(&seats, slow).unwrap());
            }
            assert!(take(&seats, same).is_none(), "{same}");
            assert!(take(&seats, other).is_some(), "{other}");
            held.pop();
            assert!(take(&seats, same).is_some(), "a place was given back");
        }
        assert!(seats.awaited.lock().is_empty());
        assert_eq!(seats.free.available_permits(), SEATS);
    }

    #[test]
    fn a_body_that_came_keeps_its_seat_and_not_its_place() {
        let seats = Seats::default();
        let mut held = Vec::new();
        for _ in 0..SEATS {
            let (seat, awaited) = take(&seats, "203.0.113.9").unwrap();
            drop(awaited);
            held.push(seat);
        }
        assert!(take(&seats, "203.0.113.10").is_none() && seats.take(None).is_none());
        held.pop();
        assert!(seats.take(None).is_some());
    }
}
