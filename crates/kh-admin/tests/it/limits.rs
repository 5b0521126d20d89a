//! The server's limits: connections, slow heads, slow requests, draining.

use std::time::Duration;

use kh_admin::{Limits, bind_loopback};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::rig::{Mood, Surface, start, start_with};

#[tokio::test]
async fn surplus_connections_are_told_and_closed() {
    let rig = start_with(Surface::Broker, Limits { connections: 2, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", rig.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        held.push(stream);
    }
    let reply = rig.raw(b"").await.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (429, "keyholder.overloaded"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    drop(held);
    // the seats come back as soon as the server has seen the connections end
    loop {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", rig.address);
        match rig.raw(request.as_bytes()).await {
            Some(reply) if reply.status == 200 => break,
            _ => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let rig = start(Surface::Broker).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").await.unwrap();
    tokio::time::pause();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let rig = start(Surface::Broker).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let head = format!(
        "POST /v1/token/acme/invalidate HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n{}\r\n",
        rig.address,
        rig.guard()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::pause();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn answers_that_are_not_read_hold_a_seat_for_a_bounded_time() {
    let rig = start_with(Surface::Broker, Limits { connections: 1, ..Limits::default() }).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let mut stream = socket.connect(rig.address).await.unwrap();
    // without the guard's token; a refusal leaves the connection open
    let request = format!("GET /v1/token/acme HTTP/1.1\r\nHost: {}\r\n\r\n", rig.address);
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let count = stream.read(&mut answer).await.unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 403 "));
    }
    // more than there is room for answers
    let requests = request.repeat(1_000);
    tokio::time::pause();
    let flood = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(Duration::from_hours(1), flood).await.expect("the server closes");
    rig.assert_untouched();
    tokio::time::resume();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", rig.address);
    let seated = async {
        while rig.raw(request.as_bytes()).await.is_none_or(|reply| reply.status != 200) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_mins(1), seated).await.expect("the seat is free again");
}

#[tokio::test]
async fn draining_ends_even_with_a_request_that_hangs() {
    let mut rig = start(Surface::Broker).await;
    rig.platform.set(Mood::Hang);
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let request = format!("GET /v1/token/acme HTTP/1.1\r\nHost: {}\r\n{}\r\n", rig.address, rig.guard());
    stream.write_all(request.as_bytes()).await.unwrap();
    while rig.platform.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    rig.cancel.cancel();
    tokio::time::pause();
    rig.server.take().unwrap().await.unwrap();
    assert!(TcpStream::connect(rig.address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn only_loopback_is_bound() {
    for outside in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = bind_loopback(outside.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{outside}");
    }
    let listener = bind_loopback("127.0.0.1:0".parse().unwrap()).await.unwrap();
    assert_eq!(listener.ttl().unwrap(), 1);
}

#[test]
fn the_default_limits_leave_room_for_a_login() {
    let limits = Limits::default();
    // the broker itself waits at most 180 s, and its error tells more than a timeout here
    assert!(limits.request > Duration::from_mins(3) && limits.head < limits.request);
}
