//! The rotator with the adapters, the store and the journal that it is shipped with, against the sandbox, in virtual
//! time.

mod histories;
mod limits;
mod organisation;
mod processes;
mod relay;
mod stage;
mod volume;
mod world;
