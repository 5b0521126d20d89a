//! The clients in memory, each in a slot that its sessions share.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwapOption;
use kh_core::port::ClientRecord;
use parking_lot::RwLock;

use crate::{Client, table::Slot};

#[derive(Default)]
struct Clients {
    by_id: HashMap<String, Slot>,
    id_by_name: HashMap<String, String>,
    /// Counts changes made through this process, so that a load that began before one cannot undo it.
    changes: u64,
}

/// Every client that this process knows.
#[derive(Default)]
pub(crate) struct Registry(RwLock<Clients>);

impl Registry {
    /// The slot and the client behind an id.
    pub(crate) fn by_id(&self, id: &str) -> Option<(Slot, Arc<Client>)> {
        let slot = self.0.read().by_id.get(id).cloned()?;
        let client = slot.load_full()?;
        Some((slot, client))
    }

    /// A client by id, else by name.
    pub(crate) fn find(&self, name_or_id: &str) -> Option<Arc<Client>> {
        let clients = self.0.read();
        let id = clients.id_by_name.get(name_or_id).map_or(name_or_id, String::as_str);
        clients.by_id.get(name_or_id).or_else(|| clients.by_id.get(id))?.load_full()
    }

    /// Every client, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self.0.read().by_id.values().filter_map(|slot| slot.load_full()).collect();
        all.sort_by(|one, two| one.record.name.cmp(&two.record.name));
        all
    }

    /// How many changes there were; to be read before a load.
    pub(crate) fn changes(&self) -> u64 {
        self.0.read().changes
    }

    /// Puts in what was just made durable. `false`: the client changed once more since `before`; load it again.
    pub(crate) fn put(&self, before: Option<&ClientRecord>, after: Client) -> bool {
        let mut clients = self.0.write();
        clients.changes += 1;
        let known = clients.by_id.get(after.record.id.as_str()).and_then(|slot| slot.load_full());
        if known.as_ref().map(|client| &client.record) != before {
            return false;
        }
        clients.put(after);
        true
    }

    /// Takes a client out; its sessions end with its slot.
    pub(crate) fn remove(&self, id: &str) {
        let mut clients = self.0.write();
        clients.changes += 1;
        clients.remove(id);
    }

    /// Replaces everything by what was loaded, unless a change was made since `changes` was read. Answers the ids of
    /// the clients that are gone.
    pub(crate) fn replace(&self, loaded: Vec<ClientRecord>, changes: u64) -> Option<Vec<ClientRecord>> {
        let mut clients = self.0.write();
        if clients.changes != changes {
            return None;
        }
        let mut gone: HashMap<String, Slot> = clients.by_id.clone();
        clients.id_by_name.clear();
        for record in loaded {
            let known = gone.remove(record.id.as_str()).and_then(|slot| slot.load_full());
            match known {
                Some(client) if client.record == record => {
                    clients.id_by_name.insert(record.name.to_string(), record.id.to_string());
                }
                _ => clients.enter(Client::of_stored(record)),
            }
        }
        let removed = gone.values().filter_map(|slot| slot.load_full()).map(|client| client.record.clone()).collect();
        for id in gone.keys() {
            clients.remove(id);
        }
        Some(removed)
    }
}

impl Clients {
    fn put(&mut self, client: Client) {
        self.id_by_name.retain(|_, other| other != client.record.id.as_str());
        self.enter(client);
    }

    fn enter(&mut self, client: Client) {
        let (id, name) = (client.record.id.to_string(), client.record.name.to_string());
        self.id_by_name.insert(name, id.clone());
        let slot = self.by_id.entry(id).or_insert_with(|| Arc::new(ArcSwapOption::empty()));
        slot.store(Some(Arc::new(client)));
    }

    fn remove(&mut self, id: &str) {
        if let Some(slot) = self.by_id.remove(id) {
            slot.store(None);
        }
        self.id_by_name.retain(|_, other| other != id);
    }
}
