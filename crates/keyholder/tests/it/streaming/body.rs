//! Bodies of any length, written, read and checked without being kept.
//!
//! Invariant: every block of a body differs from every other, so that a lost, doubled or moved one changes the digest.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::digest::{Context, SHA256};

/// Bytes written at once by both ends.
pub(crate) const BLOCK: usize = 64 * 1024;

/// A body of any length whose every block differs, with the digest of what was taken or fed so far.
pub(crate) struct Content {
    block: Vec<u8>,
    pub(crate) number: u64,
    left: u64,
    digest: Context,
}

impl Content {
    pub(crate) fn of(length: u64) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        let block = (0..BLOCK).map(|_| next()).collect();
        Self { block, number: 0, left: length, digest: Context::new(&SHA256) }
    }

    /// The next block; empty at the end.
    pub(crate) fn next(&mut self) -> &[u8] {
        self.number += 1;
        self.block[..8].copy_from_slice(&self.number.to_le_bytes());
        let length = usize::try_from(self.left.min(BLOCK as u64)).unwrap();
        self.left -= length as u64;
        self.digest.update(&self.block[..length]);
        &self.block[..length]
    }

    pub(crate) fn digest_of(length: u64) -> String {
        let mut content = Self::of(length);
        while !content.next().is_empty() {}
        hex(content.digest)
    }
}

fn hex(digest: Context) -> String {
    digest.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// How a body says where it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Framing {
    Length,
    Chunked,
}

/// The head line that announces a body.
pub(crate) fn announce(framing: Framing, length: u64) -> String {
    match framing {
        Framing::Length => format!("Content-Length: {length}\r\n"),
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
    }
}

/// Writes a body of `length` bytes; `sent` counts along.
pub(crate) fn write_body(to: &mut TcpStream, framing: Framing, length: u64, sent: &AtomicU64) -> std::io::Result<()> {
    let mut content = Content::of(length);
    loop {
        let block = content.next();
        if framing == Framing::Chunked {
            to.write_all(format!("{:x}\r\n", block.len()).as_bytes())?;
        }
        to.write_all(block)?;
        if framing == Framing::Chunked {
            to.write_all(b"\r\n")?;
        }
        if block.is_empty() {
            return Ok(());
        }
        sent.fetch_add(block.len() as u64, Ordering::Relaxed);
    }
}

/// Reads a body to its end; its length and digest.
pub(crate) fn read_body(from: &mut BufReader<TcpStream>, head: &Head) -> std::io::Result<(u64, String)> {
    let (mut digest, mut length, mut buffer) = (Context::new(&SHA256), 0, vec![0; BLOCK]);
    loop {
        let mut left = if let Some(whole) = head.length {
            whole
        } else {
            let mut line = String::new();
            from.read_line(&mut line)?;
            u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?
        };
        let last = head.length.is_some() || left == 0;
        while left > 0 {
            let most = usize::try_from(left.min(BLOCK as u64)).unwrap();
            let count = from.read(&mut buffer[..most])?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            digest.update(&buffer[..count]);
            (left, length) = (left - count as u64, length + count as u64);
        }
        if head.length.is_none() {
            from.read_line(&mut String::new())?;
        }
        if last {
            return Ok((length, hex(digest)));
        }
    }
}

/// The head of a request or an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) lines: Vec<String>,
    /// Absent when the body is chunked.
    pub(crate) length: Option<u64>,
}

impl Head {
    /// `None` at the end of the connection.
    pub(crate) fn read(from: &mut BufReader<TcpStream>) -> std::io::Result<Option<Self>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_ascii_lowercase());
        }
        let value = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
        let chunked = value("transfer-encoding: ").is_some();
        let length = value("content-length: ").map_or(0, |length| length.parse().unwrap());
        Ok(Some(Self { first: lines.remove(0), length: (!chunked).then_some(length), lines }))
    }
}
