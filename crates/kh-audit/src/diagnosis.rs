//! Which manipulation explains a line that does not fit.
//!
//! Invariant: called only once something is known to be wrong; it names the wrong, it never clears it.

use std::{fs::File, io};

use kh_core::Sha256;

use crate::{
    chain::{Lines, Walker},
    entry::Entry,
    finding::{Finding, FindingKind},
};

/// Place and links of a later line; `None` for one that is not an entry.
type Later = Option<(u64, String)>;

/// A line that does not follow. `entry` is what it holds, if its own hash is right.
pub(crate) fn of_line(walker: &Walker, entry: Option<Entry>, lines: &mut Lines<&File>) -> io::Result<Finding> {
    let later = rest(lines)?;
    let expected = walker.seq + 1;
    let next_takes_this_place = matches!(later.first(), Some(Some((seq, prev)))
        if *seq == expected && *prev == walker.head.to_hex());
    let Some(entry) = entry else {
        return Ok(if next_takes_this_place { inserted(expected) } else { edited(expected) });
    };
    if entry.seq > expected {
        let elsewhere = later.iter().flatten().any(|(seq, _)| *seq == expected);
        return Ok(if elsewhere { reordered(expected) } else { removed(expected, entry.seq) });
    }
    let forged = first_unsigned(walker);
    if entry.seq == expected {
        return Ok(match forged {
            Some(seq) => edited(seq),
            None if next_takes_this_place => inserted(expected),
            None => edited(expected),
        });
    }
    Ok(inserted(forged.unwrap_or(expected)))
}

/// The entry just passed has another hash than its checkpoint says.
pub(crate) fn of_head(walker: &Walker, signed: Sha256, lines: &mut Lines<&File>) -> io::Result<Finding> {
    let first = first_unsigned(walker).unwrap_or(walker.seq);
    Ok(match rest(lines)?.into_iter().next().flatten() {
        Some((seq, _)) if seq == walker.seq => inserted(first),
        Some((_, prev)) if prev == signed.to_hex() => edited(first),
        Some(_) | None => Finding::new(
            FindingKind::Rewritten,
            first,
            format!(
                "the chain is consistent, but from entry {first} on it is not the one that keyholder signed: the log was \
                 rewritten"
            ),
        ),
    })
}

fn first_unsigned(walker: &Walker) -> Option<u64> {
    let key = walker.key?;
    walker.since.iter().find(|entry| !entry.signed_by(&key)).map(|entry| entry.seq)
}

fn rest(lines: &mut Lines<&File>) -> io::Result<Vec<Later>> {
    let mut later = Vec::new();
    while let Some(line) = lines.next()? {
        later.push(Entry::parse(&line.bytes).map(|entry| (entry.seq, entry.prev)));
    }
    Ok(later)
}

fn edited(seq: u64) -> Finding {
    Finding::new(FindingKind::Edited, seq, format!("entry {seq} was changed after keyholder wrote it"))
}

fn inserted(seq: u64) -> Finding {
    let sentence = format!("a line that keyholder did not write there stands in the place of entry {seq}");
    Finding::new(FindingKind::Inserted, seq, sentence)
}

fn reordered(seq: u64) -> Finding {
    Finding::new(FindingKind::Reordered, seq, format!("entry {seq} is not in its place: the order was changed"))
}

fn removed(seq: u64, next: u64) -> Finding {
    let sentence = if next == seq + 1 {
        format!("entry {seq} was removed from between the others")
    } else {
        format!("entries {seq} to {} were removed", next - 1)
    };
    Finding::new(FindingKind::Removed, seq, sentence)
}
