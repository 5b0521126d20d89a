//! Sockets that systemd opened for keyholder (`sd_listen_fds(3)`), by the names of their units' `FileDescriptorName`.
//!
//! Invariant: every socket that was passed is used for what its name says, or the start is refused: one that nobody
//! serves would leave callers waiting.

use kh_core::Code;
use kh_gateway::Given;
use listenfd::ListenFd;

use crate::{environment::Environment, output::Failure};

/// The names that a socket may have.
const NAMES: &str = "gateway, gateway-tls, broker or admin";

/// Sockets by what they are for. A configured address of the same listener is not used then.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// For http.
    pub(crate) gateway: Vec<Given>,
    /// For https.
    pub(crate) gateway_tls: Vec<Given>,
    /// The broker's.
    pub(crate) broker: Option<Given>,
    /// The admin listener's.
    pub(crate) admin: Option<Given>,
}

impl Sockets {
    /// Takes over what was passed. Must run before any thread is started, because it changes the environment.
    pub(crate) fn of_supervisor(environment: &Environment) -> Result<Self, Failure> {
        let mut passed = ListenFd::from_env();
        let names = environment.text("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = Self::default();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            let socket = take(&mut passed, index).map_err(|error| {
                refused(format!("the socket {name:?} of the supervisor is no listening stream socket"))
                    .caused_by(&error)
            })?;
            sockets.sort_in(name, socket)?;
        }
        Ok(sockets)
    }

    fn sort_in(&mut self, name: &str, socket: Given) -> Result<(), Failure> {
        let single = |slot: &mut Option<Given>, socket| match slot.replace(socket) {
            None => Ok(()),
            Some(_) => Err(refused(format!("two sockets of the supervisor are named {name}"))),
        };
        match name {
            "gateway" => self.gateway.push(socket),
            "gateway-tls" => self.gateway_tls.push(socket),
            "broker" => single(&mut self.broker, socket)?,
            "admin" => single(&mut self.admin, socket)?,
            _ => {
                let problem = format!("a socket of the supervisor is named {name:?}, which says nothing about its use");
                return Err(refused(problem).hint(format!("write FileDescriptorName= with {NAMES}")));
            }
        }
        Ok(())
    }
}

fn refused(detail: String) -> Failure {
    Failure::new(Code::CONFIG_INVALID, detail).hint("see [Socket] in the .socket units")
}

fn take(passed: &mut ListenFd, index: usize) -> std::io::Result<Given> {
    let gone = || std::io::Error::other("it was taken already");
    match passed.take_tcp_listener(index) {
        Ok(listener) => Ok(Given::Tcp(listener.ok_or_else(gone)?)),
        Err(_) => Ok(Given::Unix(passed.take_unix_listener(index)?.ok_or_else(gone)?)),
    }
}
