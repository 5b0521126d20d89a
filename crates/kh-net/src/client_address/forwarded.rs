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

/// What is left of a line.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn list(&mut self) -> Option<Vec<Hop>> {
        let mut hops = Vec::new();
        loop {
            self.space();
            match self.0.first() {
                None => return Some(hops),
                Some(b',') => {}
                Some(_) => hops.push(self.element()?),
            }
            self.space();
            if !self.take(b',') {
                return Some(hops);
            }
        }
    }

    /// Pairs with semicolons between them; the address of `for`.
    fn element(&mut self) -> Option<Hop> {
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
