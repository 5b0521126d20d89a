//! The local listeners over real sockets: the whole contract, and every request that must not get through.

// `cfg(test)` tells clippy that helpers, too, are test code.
#[cfg(test)]
mod admin;
#[cfg(test)]
mod api;
#[cfg(test)]
mod broker;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod mtls;
#[cfg(test)]
mod pickup;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod revocations;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod telling;
