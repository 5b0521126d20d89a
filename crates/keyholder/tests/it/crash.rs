//! What a crash, a full disk, a read-only folder, a damaged file or a second instance may do to an installation.
//!
//! Invariant: whatever was answered is still there afterwards, and whatever was not is there wholly or not at all.

mod attempt;
mod damage;
mod disk;
mod evidence;
mod instances;
mod kills;
mod ledger;
mod round;
mod writer;
