//! One application that writes all the time: it logs in and gives tokens back, one request after the other.
//!
//! Invariant: at most one of its requests is under way, and how the files looked before it was sent is known; so a
//! change of the files without an answer is a write that was cut off.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use super::{
    attempt::{call, log_in, revoke},
    evidence::{Look, OF_TOKENS},
};
use crate::harness::{Login, text};

/// What it has been told, and what it still waits for.
#[derive(Default)]
pub struct Heard {
    pub tokens: Vec<String>,
    pub revoked: Vec<String>,
    /// Revocations whose answer did not come: these tokens may live or not.
    pub unknown: Vec<String>,
    /// How the files looked before the request under way was sent.
    pub under_way: Option<Look>,
}

/// Traffic at a gateway until it is stopped or the gateway dies.
pub struct Traffic {
    pub heard: Arc<Mutex<Heard>>,
    pub calls: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// `token` is a live token for the calls; `login` is for the writes.
    pub fn start(gateway: &str, state: PathBuf, login: &Login, token: &str) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let calls = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let writes = {
            let (gateway, login) = (gateway.to_owned(), login.clone());
            let (heard, stop) = (Arc::clone(&heard), Arc::clone(&stop));
            std::thread::spawn(move || write_until(&stop, &gateway, &state, &login, &heard))
        };
        let reads = {
            let (gateway, token) = (gateway.to_owned(), token.to_owned());
            let (calls, stop) = (Arc::clone(&calls), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(answer) = call(&gateway, &token) else { return };
                    assert_eq!(answer.status, 200, "{answer:?}");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Self { heard, calls, stop, threads: vec![writes, reads] }
    }

    /// How the files looked before the request under way was sent, if they have changed since.
    pub fn writing(&self, state: &std::path::Path) -> Option<Look> {
        let before = self.heard.lock().unwrap().under_way.clone();
        before.filter(|before| *before != Look::at(state, OF_TOKENS))
    }

    /// Ends it and answers what it heard.
    pub fn end(self) -> (Heard, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the traffic held its assertions");
        }
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        (heard, self.calls.load(Ordering::Relaxed))
    }
}

fn write_until(stop: &AtomicBool, gateway: &str, state: &std::path::Path, login: &Login, heard: &Mutex<Heard>) {
    let mut turn = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let victim = (turn.is_multiple_of(3)).then(|| heard.lock().unwrap().tokens.pop()).flatten();
        heard.lock().unwrap().under_way = Some(Look::at(state, OF_TOKENS));
        let answer = match &victim {
            Some(token) => revoke(gateway, token),
            None => log_in(gateway, login),
        };
        let mut heard = heard.lock().unwrap();
        match (answer, victim) {
            (Some(answer), Some(token)) => {
                assert!(matches!(answer.status, 200 | 204), "{answer:?}");
                heard.revoked.push(token);
            }
            (Some(answer), None) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                heard.tokens.push(text(&answer.json(), "access_token").to_owned());
            }
            (None, victim) => {
                heard.unknown.extend(victim);
                return;
            }
        }
        heard.under_way = None;
    }
}
