//! Who may put what into the table of sessions. Loading from the store takes time; a token that is revoked while a
//! load is under way must not come back with it, and a login that succeeds meanwhile must not be dropped by it. Each
//! load therefore holds a ticket, and every insertion and removal passes here, in order.
//!
//! Also counts each client's tokens, so that none can fill the memory.

use std::collections::{BTreeSet, HashMap, HashSet};

use kh_core::{ClientId, Now, Sha256, port::TokenRecord};
use parking_lot::Mutex;

use crate::table::{Entry, Slot, Table};

#[derive(Default)]
struct Book {
    /// The next sequence number.
    next: u64,
    /// Loads and logins under way, by their number.
    loads: BTreeSet<u64>,
    /// Removed since the oldest load under way began, with the number of the removal.
    removed: HashMap<Sha256, u64>,
    held: HashMap<ClientId, HashSet<Sha256>>,
    /// Logins under way.
    reserved: HashMap<ClientId, usize>,
}

/// The table of sessions with its book.
pub(crate) struct Ledger {
    pub(crate) table: Table,
    book: Mutex<Book>,
}

/// A load or a login under way; what it read or wrote was true when the ticket was taken or later.
pub(crate) struct Ticket<'a> {
    ledger: &'a Ledger,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut book = self.ledger.book.lock();
        book.loads.remove(&self.number);
        match book.loads.first().copied() {
            None => book.removed = HashMap::new(),
            Some(oldest) => book.removed.retain(|_, removal| *removal > oldest),
        }
    }
}

/// Room for one more token of a client, given back on drop: a login that is cancelled leaks nothing.
pub(crate) struct Room<'a> {
    ledger: &'a Ledger,
    client: ClientId,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut book = self.ledger.book.lock();
        if let Some(count) = book.reserved.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                book.reserved.remove(&self.client);
            }
        }
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { table: Table::new(), book: Mutex::default() }
    }

    /// Takes a ticket; to be done before the store is read, or a token written to it.
    pub(crate) fn begin_load(&self) -> Ticket<'_> {
        let mut book = self.book.lock();
        let number = book.next;
        book.next += 1;
        book.loads.insert(number);
        Ticket { ledger: self, number }
    }

    fn enter(&self, book: &mut Book, token: &TokenRecord, slot: Slot, now: Now) {
        book.held.entry(token.client.clone()).or_default().insert(token.digest);
        self.table.insert(token.digest, Entry::new(token, slot, now, book.next));
    }

    /// Takes a token out for good: no load that is under way brings it back.
    pub(crate) fn forget(&self, digest: &Sha256, client: Option<&ClientId>) {
        let mut book = self.book.lock();
        self.leave(&mut book, digest, client);
    }

    fn leave(&self, book: &mut Book, digest: &Sha256, client: Option<&ClientId>) {
        if !book.loads.is_empty() {
            let number = book.next;
            book.next += 1;
            book.removed.insert(*digest, number);
        }
        let entry = self.table.remove(digest);
        let owner = entry.and_then(|entry| entry.slot.load_full());
        let owner = client.or(owner.as_ref().map(|client| &client.record.id));
        if let Some(owner) = owner
            && let Some(held) = book.held.get_mut(owner)
        {
            held.remove(digest);
            if held.is_empty() {
                book.held.remove(owner);
            }
        }
    }

    /// Takes every token of a client out for good.
    pub(crate) fn forget_client(&self, client: &ClientId) {
        let mut book = self.book.lock();
        for digest in book.held.remove(client).unwrap_or_default() {
            self.leave(&mut book, &digest, Some(client));
        }
    }

    /// Room for one more token if the client has fewer than `limit`, counting logins under way.
    pub(crate) fn reserve(&self, client: &ClientId, limit: usize) -> Option<Room<'_>> {
        let mut book = self.book.lock();
        let held = book.held.get(client).map_or(0, HashSet::len);
        let reserved = book.reserved.entry(client.clone()).or_insert(0);
        if held + *reserved >= limit {
            if *reserved == 0 {
                book.reserved.remove(client);
            }
            return None;
        }
        *reserved += 1;
        Some(Room { ledger: self, client: client.clone() })
    }

    /// The token of `client` that `rank` puts highest; `None` ranks are not eligible.
    pub(crate) fn highest<R: Ord>(&self, client: &ClientId, rank: impl Fn(&Entry) -> Option<R>) -> Option<Sha256> {
        let book = self.book.lock();
        let held = book.held.get(client)?;
        held.iter()
            .filter_map(|digest| Some((self.table.peek(digest, &rank)??, *digest)))
            .max_by(|(one, _), (two, _)| one.cmp(two))
            .map(|(_, digest)| digest)
    }
}

impl Ticket<'_> {
    /// Puts a token in that was loaded or just issued here, unless it is there already or was removed since the ticket was
    /// taken.
    pub(crate) fn admit(&self, token: &TokenRecord, slot: Slot, now: Now) {
        let mut book = self.ledger.book.lock();
        let removed = book.removed.get(&token.digest).is_some_and(|removal| *removal > self.number);
        if !removed && self.ledger.table.peek(&token.digest, |_| ()).is_none() {
            self.ledger.enter(&mut book, token, slot, now);
        }
    }

    /// Takes out what is not in `present`, except what came in after the load began.
    pub(crate) fn keep_only(&self, present: &HashSet<Sha256>) {
        let gone = self.ledger.table.pick(|digest, entry| entry.born <= self.number && !present.contains(digest));
        for digest in gone {
            let mut book = self.ledger.book.lock();
            // it may have been taken out and put in again since it was picked
            if self.ledger.table.peek(&digest, |entry| entry.born) <= Some(self.number) {
                self.ledger.leave(&mut book, &digest, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use arc_swap::ArcSwapOption;
    use kh_core::UnixMillis;

    use super::*;

    fn token(name: &str) -> TokenRecord {
        TokenRecord {
            digest: Sha256::of(name.as_bytes()),
            client: "c".parse().unwrap(),
            issued_at: UnixMillis(0),
            expires_at: UnixMillis(1000),
            scopes: None,
            confirmation: None,
        }
    }

    fn slot() -> Slot {
        Arc::new(ArcSwapOption::empty())
    }

    fn admit(ledger: &Ledger, name: &str, now: Now) {
        ledger.begin_load().admit(&token(name), slot(), now);
    }

    fn has(ledger: &Ledger, name: &str) -> bool {
        ledger.table.peek(&token(name).digest, |_| ()).is_some()
    }

    #[test]
    fn a_load_brings_no_token_back_that_was_revoked_meanwhile() {
        let (ledger, now) = (Ledger::new(), Now::default());
        admit(&ledger, "a", now);
        let ticket = ledger.begin_load();
        ledger.forget(&token("a").digest, Some(&token("a").client));
        ticket.admit(&token("a"), slot(), now);
        assert!(!has(&ledger, "a"));
        let later = ledger.begin_load();
        drop(ticket);
        later.admit(&token("a"), slot(), now);
        assert!(has(&ledger, "a"), "a load that began after the removal saw what is true now");
        drop(later);
        assert!(ledger.book.lock().removed.is_empty(), "nothing is remembered without a load under way");
    }

    #[test]
    fn a_load_drops_what_is_gone_and_keeps_a_login_that_came_in_meanwhile() {
        let (ledger, now) = (Ledger::new(), Now::default());
        for name in ["kept", "gone"] {
            admit(&ledger, name, now);
        }
        let ticket = ledger.begin_load();
        admit(&ledger, "login", now);
        ticket.keep_only(&HashSet::from([token("kept").digest]));
        assert_eq!(["kept", "gone", "login"].map(|name| has(&ledger, name)), [true, false, true]);
        drop(ticket);
        ledger.begin_load().keep_only(&HashSet::from([token("kept").digest]));
        assert!(!has(&ledger, "login"), "the next load decides about it");
    }

    #[test]
    fn room_counts_what_is_held_and_under_way_and_is_given_back() {
        let (ledger, client) = (Ledger::new(), token("a").client);
        admit(&ledger, "a", Now::default());
        let room = ledger.reserve(&client, 2).unwrap();
        assert!(ledger.reserve(&client, 2).is_none());
        drop(room);
        assert!(ledger.reserve(&client, 2).is_some());
        ledger.forget_client(&client);
        let book = ledger.book.lock();
        assert!(book.held.is_empty() && book.reserved.is_empty(), "no client leaves anything behind");
    }

    #[test]
    fn rank_decides_who_goes() {
        let (ledger, client) = (Ledger::new(), token("a").client);
        let at = |ms| Now { wall: UnixMillis(0), mono: Duration::from_millis(ms) };
        for (name, used) in [("a", 5), ("b", 1), ("c", 9)] {
            admit(&ledger, name, at(used));
        }
        let oldest = ledger.highest(&client, |entry| Some(entry.idle(at(10))));
        assert_eq!(oldest, Some(token("b").digest));
        assert_eq!(ledger.highest(&client, |_| None::<u8>), None);
    }
}
