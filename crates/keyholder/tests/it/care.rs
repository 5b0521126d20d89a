//! Backup, restore, rekey, check and migration on the real program.
//!
//! Invariant: every claim about a kill says how many kills landed inside of what they were meant to interrupt.

mod backups;
mod checks;
mod kills;
mod load;
mod schemas;
mod together;
mod world;
