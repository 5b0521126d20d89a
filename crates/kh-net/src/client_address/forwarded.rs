//! The header `Forwarded` (RFC 7239).
//!
//! Invariant: a line that does not follow the grammar tells nothing: a quotation mark that a client left open would
//! else swallow what the proxy behind it wrote.

use std::net::IpAddr;

use super::{FORWARDED_LINE_MAX, node};

/// Most parameters of one hop: RFC 7239 has 4. They are looked through for repetitions.
const PAIRS_MAX: usize = 16;

/// The hops of one line in its order. One is `None` when its address cannot be known; of a malformed line that is all.
pub(super) fn hops(line: &[u8]) -> Vec<Hop> {
    if line.len() > FORWARDED_LINE_MAX {
        return vec![None];
    }
    let mut reader = Reader(line);
    reader.list().filter(|_| reader.0.is_empty()).unwrap_or_else(|| vec![None])
}

/// A hop's address, if it can be known.
type Hop = Option<IpAddr>;

/// `proto` and `host` of a line's last hop, as they stand there.
pub(super) type Origin = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What the last hop of a line says of the address that it was reached by; none of a malformed line.
pub(super) fn origin(line: &[u8]) -> Option<Origin> {
    if line.len() > FORWARDED_LINE_MAX {
        return None;
    }
    let mut reader = Reader(line);
    let mut last = None;
    let mut note = |name: &[u8], value: &[u8], first: bool| {
        let (proto, host) = if first { last.insert((None, None)) } else { last.get_or_insert((None, None)) };
        match name {
            b"proto" => *proto = Some(value.to_vec()),
            b"host" => *host = Some(value.to_vec()),
            _ => {}
        }
    };
    reader.list_telling(&mut note).filter(|_| reader.0.is_empty())?;
    last
}

/// Is told each parameter's name in small letters, its value, and whether it is its hop's first.
type Note<'a> = &'a mut dyn FnMut(&[u8], &[u8], bool);

/// What is left of a line.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn list(&mut self) -> Option<Vec<Hop>> {
        self.list_telling(&mut |_, _, _| {})
    }

    fn list_telling(&mut self, note: Note<'_>) -> Option<Vec<Hop>> {
        let mut hops = Vec::new();
        loop {
            self.space();
            match self.0.first() {
                None => return Some(hops),
                Some(b',') => {}
                Some(_) => hops.push(self.element(note)?),
            }
            self.space();
            if !self.take(b',') {
                return Some(hops);
            }
        }
    }

    /// Pairs with semicolons between them; the address of `for`.
    fn element(&mut self, note: Note<'_>) -> Option<Hop> {
        let mut address = None;
        let mut names: Vec<Vec<u8>> = Vec::new();
        loop {
            if !matches!(self.0.first(), None | Some(b',' | b';')) {
                let name = self.token()?.to_ascii_lowercase();
                if !self.take(b'=') {
                    return None;
                }
                let value = self.value()?;
                if name == b"for" {
                    address = node::strict(&value);
                }
                // section 4: each parameter at most once
                if names.contains(&name) || names.len() == PAIRS_MAX {
                    return None;
                }
                note(&name, &value, names.is_empty());
                names.push(name);
            }
            self.space();
            if !self.take(b';') {
                return Some(address);
            }
            self.space();
        }
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        if !self.take(b'"') {
            return self.token().map(<[u8]>::to_vec);
        }
        let mut value = Vec::new();
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let byte = match byte {
                b'"' => return Some(value),
                b'\\' => {
                    let (escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    escaped
                }
                byte => byte,
            };
            if byte.is_ascii_control() && *byte != b'\t' {
                return None;
            }
            value.push(*byte);
        }
    }

    fn token(&mut self) -> Option<&[u8]> {
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let end = self.0.iter().position(|byte| !is_token(byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    fn take(&mut self, wanted: u8) -> bool {
        let rest = self.0.strip_prefix(&[wanted]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn space(&mut self) {
        let end = self.0.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(self.0.len());
        self.0 = self.0.get(end..).unwrap_or_default();
    }
}
