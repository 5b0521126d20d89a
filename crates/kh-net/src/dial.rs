//! A TCP connection to one of the addresses of a name (RFC 8305, "happy eyeballs").
//!
//! Invariant: a dead address costs [`ATTEMPT_DELAY`] and no more, as long as another one answers.

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::net::{TcpSocket, TcpStream};

use crate::{ConnectError, Source};

/// How long an address has the field to itself before the next one is tried beside it (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Most addresses of one name that are tried: large services publish eight of each family.
const ADDRESSES_MAX: usize = 16;

/// Connects to the first of `addresses` that answers.
pub(crate) async fn dial(addresses: Vec<SocketAddr>, source: Source) -> Result<TcpStream, ConnectError> {
    let found = !addresses.is_empty();
    let usable = addresses.into_iter().filter(|address| source.reaches(*address)).collect();
    let mut waiting = by_turns(usable).into_iter().take(ADDRESSES_MAX);
    let mut attempts = FuturesUnordered::new();
    let mut last = if found { ConnectError::NoAddressOfFamily } else { ConnectError::NoAddress };
    loop {
        match waiting.next() {
            Some(address) => attempts.push(attempt(address, source)),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

async fn attempt(address: SocketAddr, source: Source) -> Result<TcpStream, ConnectError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(ConnectError::Unreachable)?;
    if let Some(from) = source.towards(address) {
        socket.bind(SocketAddr::new(from, 0)).map_err(ConnectError::Source)?;
    }
    let stream = socket.connect(address).await.map_err(ConnectError::Unreachable)?;
    stream.set_nodelay(true).map_err(ConnectError::Unreachable)?;
    Ok(stream)
}

/// Families in turns, beginning with that of the best address (RFC 8305 section 4).
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for address in addresses {
        if address.is_ipv4() == first_is_v4 { firsts.push(address) } else { seconds.push(address) }
    }
    let (mut firsts, mut seconds) = (firsts.into_iter(), seconds.into_iter());
    let mut turns = Vec::with_capacity(firsts.len() + seconds.len());
    loop {
        let (first, second) = (firsts.next(), seconds.next());
        if first.is_none() && second.is_none() {
            return turns;
        }
        turns.extend(first.into_iter().chain(second));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let check = |given: &str, expected: &str| {
            let address = |word: &str| match word.split_at(1) {
                ("4", last) => format!("192.0.2.{last}:443").parse().unwrap(),
                (_, last) => format!("[2001:db8::{last}]:443").parse().unwrap(),
            };
            let all = |words: &str| words.split_whitespace().map(address).collect::<Vec<SocketAddr>>();
            assert_eq!(by_turns(all(given)), all(expected), "{given}");
        };
        check("", "");
        check("41 42", "41 42");
        check("61 62 41 42", "61 41 62 42");
        check("41 61 62 63", "41 61 62 63");
        check("61 41 42", "61 41 42");
    }
}
