//! The adapters against a scripted server on loopback, and management against the sandbox.
//!
//! Invariant of every test: a fetch sends at most one token request, whatever is answered.

// `cfg(test)` tells clippy that helpers, too, are test code.
#[cfg(test)]
mod cxone;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod genesys;
#[cfg(test)]
mod grants;
#[cfg(test)]
mod inbound;
#[cfg(test)]
mod management;
#[cfg(test)]
mod oauth2;
#[cfg(test)]
mod transport;
