//! A TCP relay between keyholder and a platform that can lose its connections in the ways that networks do.
//!
//! Invariant: what it says about its connections is counted when they are accepted, before a byte is passed on.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How connections are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The other side is told at once (FIN), as by a platform that closes what was idle.
    Told,
    /// The other side hears of it (RST) with its next byte, as from an address translator that forgot.
    Silent,
}

/// Passes bytes between whoever connects and one address.
pub struct Relay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<Option<SocketAddr>>,
    accepted: AtomicUsize,
    open: Mutex<Vec<Arc<Pair>>>,
    resets: AtomicUsize,
}

/// One connection and its continuation.
struct Pair {
    near: TcpStream,
    far: TcpStream,
    lost: Mutex<Option<Loss>>,
}

impl Relay {
    /// Listens; [`Relay::lead_to`] says where to.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: Mutex::default(),
            resets: AtomicUsize::new(0),
        });
        let of_thread = Arc::clone(&shared);
        // the thread ends with the test's process
        thread::spawn(move || {
            for near in listener.incoming() {
                of_thread.accept(near.unwrap());
            }
        });
        Self { address, shared }
    }

    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = Some(target);
    }

    /// Connections since the start.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that were used after they had been lost silently.
    pub fn resets(&self) -> usize {
        self.shared.resets.load(Ordering::SeqCst)
    }

    /// Loses every open connection; the platform always hears of it. Answers how many there were.
    pub fn lose_all(&self, loss: Loss) -> usize {
        let open = std::mem::take(&mut *self.shared.open.lock().unwrap());
        let mut lost = 0;
        for pair in open {
            *pair.lost.lock().unwrap() = Some(loss);
            // it may be gone already
            lost += usize::from(pair.far.shutdown(Shutdown::Both).is_ok());
            if loss == Loss::Told {
                pair.near.shutdown(Shutdown::Both).ok();
            }
        }
        lost
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, near: TcpStream) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let target = self.target.lock().unwrap().expect("the relay knows where it leads");
        let Ok(far) = TcpStream::connect(target) else { return };
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
        }
        let pair = Arc::new(Pair { near, far, lost: Mutex::default() });
        self.open.lock().unwrap().push(Arc::clone(&pair));
        let (upwards, shared) = (Arc::clone(&pair), Arc::clone(self));
        thread::spawn(move || shared.upwards(&upwards));
        thread::spawn(move || downwards(&pair));
    }

    fn upwards(&self, pair: &Pair) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = (&pair.near).read(&mut buffer).unwrap_or(0);
            if *pair.lost.lock().unwrap() == Some(Loss::Silent) {
                if count > 0 {
                    self.resets.fetch_add(1, Ordering::SeqCst);
                }
                reset(&pair.near);
                return;
            }
            if count == 0 || (&pair.far).write_all(&buffer[..count]).is_err() {
                pair.far.shutdown(Shutdown::Write).ok();
                return;
            }
        }
    }
}

/// Closes so that the other side gets a reset.
fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    stream.shutdown(Shutdown::Both).ok();
}

fn downwards(pair: &Pair) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = (&pair.far).read(&mut buffer).unwrap_or(0);
        let silent = *pair.lost.lock().unwrap() == Some(Loss::Silent);
        if silent {
            return;
        }
        if count == 0 || (&pair.near).write_all(&buffer[..count]).is_err() {
            pair.near.shutdown(Shutdown::Write).ok();
            return;
        }
    }
}
