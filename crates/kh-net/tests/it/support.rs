//! Names that mean what a test says, listeners that tell who came, and an address where nobody answers.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use kh_net::{ConnectError, Egress, Lookup, Resolve, Settings, Source, Stream, SystemRoots, Target};
use tokio::net::TcpListener;

/// Enough for a busy machine, and far below the two minutes after which Linux gives up a connection by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Answers by name, which a test may change, and how often it was asked.
#[derive(Default)]
pub(crate) struct Names {
    known: Mutex<HashMap<String, Vec<SocketAddr>>>,
    asked: Mutex<usize>,
}

impl Names {
    pub(crate) fn set(&self, name: &str, addresses: &[SocketAddr]) {
        self.known.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
    }

    pub(crate) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, _port: u16) -> Lookup<'a> {
        *self.asked.lock().unwrap() += 1;
        let found = self.known.lock().unwrap().get(host).cloned();
        Box::pin(async move { found.ok_or_else(|| std::io::ErrorKind::NotFound.into()) })
    }
}

/// A way out with these names and source addresses.
pub(crate) fn egress(names: &Arc<Names>, source: Source) -> Egress {
    let settings = Settings { source, ..Settings::default() };
    Egress::new(settings, &SystemRoots::load()).unwrap().with_resolver(Arc::clone(names) as Arc<dyn Resolve>)
}

/// Connects in clear to `host`.
pub(crate) async fn connect(egress: &Egress, host: &str, within: Duration) -> Result<SocketAddr, ConnectError> {
    let target = Target { host, port: 443, server_name: None };
    match egress.connect(target, within).await? {
        Stream::Plain(stream) => Ok(stream.peer_addr().unwrap()),
        Stream::Tls(_) => panic!("nobody asked for TLS"),
    }
}

/// A listener on a free port of `ip`.
pub(crate) async fn listener(ip: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address that answers nobody, as behind a firewall that drops: a listener whose queue is full.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(1).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        for _ in 0..64 {
            match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                Ok(stream) => queued.push(stream),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
                    return Self { address, _listener: socket, _queued: queued };
                }
            }
        }
        panic!("the queue of a listener never gets full");
    }
}
