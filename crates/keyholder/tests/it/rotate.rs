//! Rotation end to end: real processes, the sandbox as the platform, the embedded store, and applications that go on
//! calling meanwhile.

mod refusals;
mod stores;
mod strategies;
mod world;
