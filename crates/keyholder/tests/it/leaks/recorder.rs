//! A TCP relay that keeps every byte: what keyholder and a platform really said to each other.
//!
//! Invariant: bytes pass unchanged but for the platform's address, which becomes the relay's, so that addresses which
//! the platform names lead through the relay too.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Both directions of all connections, one buffer each.
type Tape = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// A relay in front of one platform. Its threads end with their connections.
pub struct Recorder {
    pub url: String,
    tape: Tape,
}

impl Recorder {
    /// Listens on a free port for the platform at `url`.
    pub fn before(url: &str) -> Self {
        let target: SocketAddr = url.strip_prefix("http://").expect("plain http").parse().expect("an address");
        // As many digits as the platform's port, so that replacing it changes no length.
        let listener = (0..1000)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .find(|listener| listener.local_addr().unwrap().to_string().len() == target.to_string().len())
            .expect("a port with as many digits");
        let own = listener.local_addr().unwrap();
        let tape = Tape::default();
        let kept = Arc::clone(&tape);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else { continue };
                let (to_server, to_client) = (reel(&kept), reel(&kept));
                let (client_end, server_end) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pump(client_end, server_end, &to_server, None));
                let names = (target.to_string(), own.to_string());
                thread::spawn(move || pump(server, client, &to_client, Some(&names)));
            }
        });
        Self { url: format!("http://{own}"), tape }
    }

    /// Everything so far, one text for each direction of each connection.
    pub fn heard(&self) -> Vec<String> {
        let reels = self.tape.lock().unwrap();
        reels.iter().map(|reel| String::from_utf8_lossy(&reel.lock().unwrap()).into_owned()).collect()
    }
}

fn reel(tape: &Tape) -> Arc<Mutex<Vec<u8>>> {
    let reel = Arc::new(Mutex::new(Vec::new()));
    tape.lock().unwrap().push(Arc::clone(&reel));
    reel
}

fn pump(mut from: TcpStream, mut to: TcpStream, reel: &Mutex<Vec<u8>>, names: Option<&(String, String)>) {
    let mut buffer = vec![0; 256 * 1024];
    let mut held = Vec::new();
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        held.extend_from_slice(&buffer[..count]);
        let ready = match names {
            Some((platform, own)) => renamed(&mut held, platform.as_bytes(), own.as_bytes()),
            None => std::mem::take(&mut held),
        };
        reel.lock().unwrap().extend_from_slice(&ready);
        if to.write_all(&ready).is_err() {
            break;
        }
    }
    // Either side may have closed already.
    to.shutdown(Shutdown::Write).ok();
    from.shutdown(Shutdown::Read).ok();
}

/// Takes what is complete out of `held`, with `old` replaced; the beginning of a split `old` stays behind.
fn renamed(held: &mut Vec<u8>, old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut at = 0;
    while at + old.len() <= held.len() {
        if held[at..].starts_with(old) {
            held[at..at + old.len()].copy_from_slice(new);
        }
        at += 1;
    }
    let split = (1..old.len()).rev().find(|length| held.ends_with(&old[..*length])).unwrap_or(0);
    let rest = held.split_off(held.len() - split);
    std::mem::replace(held, rest)
}

/// Every value that stands behind `before` in `text`, up to one of `ends`.
pub fn values_after<'t>(text: &'t str, before: &str, ends: &[char]) -> Vec<&'t str> {
    let starts = text.match_indices(before).map(|(at, _)| at + before.len());
    starts.map(|start| text[start..].split(ends).next().unwrap_or_default()).collect()
}
