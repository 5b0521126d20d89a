//! The document as every store sees it: text members and the marker of its write.
//!
//! Invariant: members are wiped when dropped.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use zeroize::Zeroizing;

use super::TargetError;
use crate::{
    SecretBytes,
    rotation::{Marker, WriteToken},
};

/// The members of a document, for stores that keep objects and may give them back in another order and with other
/// escapes: equal members are the same document.
#[derive(PartialEq, Eq)]
pub struct Members {
    marker: Option<Marker>,
    texts: BTreeMap<String, Zeroizing<String>>,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("marker", &self.marker).finish_non_exhaustive()
    }
}

crate::assert_closed!(Members);

impl Members {
    /// The members of a JSON object of text members, of which `_kh` is the marker; none for anything else.
    pub fn read(document: &SecretBytes) -> Option<Self> {
        serde_json::from_slice(document.expose()).ok()
    }

    /// Whether both are documents and have the same members.
    pub fn same(left: &SecretBytes, right: &SecretBytes) -> bool {
        Self::read(left).is_some_and(|left| Self::read(right).is_some_and(|right| left == right))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of text members")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members { marker: None, texts: BTreeMap::new() };
                while let Some(name) = map.next_key::<String>()? {
                    let again = match name.as_str() {
                        "_kh" => members.marker.replace(map.next_value()?).is_some(),
                        _ => members.texts.insert(name, map.next_value()?).is_some(),
                    };
                    if again {
                        return Err(A::Error::custom("a member stands there twice"));
                    }
                }
                Ok(members)
            }
        }
        from.deserialize_map(Read)
    }
}

/// What every adapter asks of a document before it sends it: not larger than `max`, a JSON object of text members, and
/// its marker names this very write. Without the marker nobody could tell, after a crash, whose write is live.
pub fn check_document(token: WriteToken, value: &SecretBytes, max: usize) -> Result<Marker, TargetError> {
    let size = value.expose().len();
    if size > max {
        return Err(TargetError::TooLarge { size, max });
    }
    let Some(members) = Members::read(value) else {
        return Err(TargetError::Unusable("the document is not a JSON object of text members".to_owned()));
    };
    match members.marker {
        Some(marker) if marker.write == token => Ok(marker),
        Some(marker) => {
            Err(TargetError::Unusable(format!("the document names the write {}, not {token}", marker.write)))
        }
        None => Err(TargetError::Unusable(format!("the document does not name its write {token}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::RunId;

    fn text(text: &str) -> SecretBytes {
        SecretBytes::new(text.as_bytes().to_vec())
    }

    #[test]
    fn the_same_members_are_the_same_document() {
        let same = |left: &str, right: &str| Members::same(&text(left), &text(right));
        assert!(same(r#"{"a":"1","b":"<é"}"#, r#"{ "b":"\u003c\u00e9", "a":"1" }"#));
        assert!(!same(r#"{"a":"1"}"#, r#"{"a":"2"}"#));
        assert!(!same(r#"{"a":"1"}"#, r#"{"a":"1","b":"2"}"#));
        for no_document in ["[]", "1", r#"{"a":1}"#, r#"{"a":"1","a":"1"}"#, r#"{"_kh":"x"}"#, r#"{"a":null}"#, ""] {
            assert!(!same(no_document, no_document), "{no_document}");
        }
        assert!(!format!("{:?}", Members::read(&text(r#"{"a":"hunter2"}"#))).contains("hunter2"));
    }

    #[test]
    fn a_document_names_its_write() {
        let run: RunId = "01900000-0000-7000-8000-000000000001".parse().unwrap();
        let (token, other) = (WriteToken::of(run, "s", "promote"), WriteToken::of(run, "s", "rollback"));
        let json = format!(
            r#"{{"client_secret":"s","_kh":{{"run":"{run}","write":"{token}","generation":1,"fingerprint":"0123456789abcdef","created_at":5}}}}"#
        );
        assert_eq!(check_document(token, &text(&json), json.len()).unwrap().write, token);
        assert!(matches!(check_document(token, &text(&json), json.len() - 1), Err(TargetError::TooLarge { .. })));
        assert!(matches!(check_document(other, &text(&json), 999), Err(TargetError::Unusable(_))));
        assert!(matches!(check_document(token, &text(r#"{"a":"b"}"#), 999), Err(TargetError::Unusable(_))));
    }
}
