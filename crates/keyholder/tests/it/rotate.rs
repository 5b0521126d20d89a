//! Rotation end to end: real processes, the sandbox as the platform, the embedded store, and applications that go on
//! calling meanwhile.

mod faults;
mod kills;
mod leaked;
mod overrides;
mod own;
mod plans;
mod receiver;
mod refusals;
mod rig;
mod rollback;
mod schedule;
mod stores;
mod strategies;
mod urgent;
mod world;
