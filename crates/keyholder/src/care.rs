//! Taking care of an installation as a whole: its backup as one encrypted file, putting one back, another key, and
//! looking whether everything is sound.
//!
//! Invariants: nothing is replaced before what takes its place was read and verified in full; what was replaced is kept
//! aside; a process that is killed at any moment leaves an installation that opens, or one whose next command says
//! which command finishes the work.

pub(crate) mod archive;
pub(crate) mod envelope;
pub(crate) mod inspect;
pub(crate) mod rekeyed;
pub(crate) mod switch;
