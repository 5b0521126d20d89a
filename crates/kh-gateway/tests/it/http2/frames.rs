//! HTTP/2 by hand, for what no honest client sends: frames (RFC 9113 section 4) with header blocks that are never
//! compressed (RFC 7541 section 6.2.2).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Caller, Tls};
use crate::support::PATIENCE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// One frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was answered.
    Answered(u16),
    /// It was reset.
    Reset,
    /// The connection ended.
    Gone,
}

/// A connection whose frames are written one by one.
pub(super) struct Raw {
    stream: Tls,
}

impl Raw {
    /// Connects and says hello.
    pub(super) async fn open(caller: &Caller) -> Self {
        let mut raw = Self { stream: caller.connect().await };
        raw.bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.frame(SETTINGS, 0, 0, &[]).await;
        raw
    }

    /// Writes bytes; that the gateway has closed already is seen when reading.
    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    pub(super) async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.bytes(&encode(kind, flags, stream, payload)).await;
    }

    /// A request's head in one frame.
    pub(super) async fn head(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) {
        self.frame(HEADERS, END_HEADERS | flags, stream, &block(fields)).await;
    }

    /// The next frame; none when the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("the gateway says something or closes")
    }

    /// The next frame, if one comes soon.
    pub(super) async fn soon(&mut self, within: Duration) -> Option<Frame> {
        tokio::time::timeout(within, self.read()).await.ok().flatten()
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        // what every peer answers
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]).await,
            PING if frame.flags & ACK == 0 => self.frame(PING, ACK, 0, &frame.payload.clone()).await,
            _ => {}
        }
        Some(frame)
    }

    /// Reads until it is known what became of `stream`.
    pub(super) async fn fate(&mut self, stream: u32) -> Fate {
        while let Some(frame) = self.next().await {
            match frame.kind {
                HEADERS if frame.stream == stream => return Fate::Answered(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return Fate::Reset,
                GOAWAY if error(&frame) != 0 => return Fate::Gone,
                _ => {}
            }
        }
        Fate::Gone
    }
}

/// The error code of a GOAWAY (RFC 9113 section 6.8).
pub(super) fn error(goaway: &Frame) -> u32 {
    goaway.payload.get(4..8).map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap()))
}

pub(super) fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block of literal fields.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541 section 5.1, with a prefix of seven bits.
fn integer(mut value: usize, to: &mut Vec<u8>) {
    if value < 127 {
        return to.push(u8::try_from(value).unwrap());
    }
    to.push(127);
    value -= 127;
    while value >= 128 {
        to.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    to.push(u8::try_from(value).unwrap());
}

/// The `:status` that begins the header block of an answer (RFC 7541 appendices A and B).
fn status(mut block: &[u8]) -> u16 {
    while let [first, rest @ ..] = block
        && first >> 5 == 1
    {
        block = rest;
    }
    match block {
        [first, ..] if first >> 7 == 1 => [200, 204, 206, 304, 400, 404, 500][usize::from(first & 127) - 8],
        [_, length, rest @ ..] if length >> 7 == 1 => {
            let bytes: Vec<String> =
                rest[..usize::from(length & 127)].iter().map(|byte| format!("{byte:08b}")).collect();
            let bits = bytes.concat();
            let (mut number, mut at) = (0, 0);
            for _ in 0..3 {
                let short = &bits[at..at + 5];
                let (digit, length) = match short {
                    "00000" | "00001" | "00010" => (u16::from_str_radix(short, 2).unwrap(), 5),
                    _ => (u16::from_str_radix(&bits[at..at + 6], 2).unwrap() - 0b01_1001 + 3, 6),
                };
                number = number * 10 + digit;
                at += length;
            }
            number
        }
        [_, length, rest @ ..] => std::str::from_utf8(&rest[..usize::from(*length)]).unwrap().parse().unwrap(),
        _ => panic!("no status in {block:?}"),
    }
}

#[test]
fn statuses_are_read() {
    // as the examples of RFC 7541 appendix C.6 and by hand
    for (block, expected) in [
        (&[0x88][..], 200),
        (&[0x8c], 400),
        (&[0x48, 0x82, 0x64, 0x02], 302),
        (&[0x20, 0x48, 0x83, 0x69, 0x90, 0xff], 431),
        (&[0x08, 3, b'4', b'0', b'3'], 403),
    ] {
        assert_eq!(status(block), expected, "{block:?}");
    }
}
