//! Hooks and notices against strict servers on loopback. Each rule of a server has its source beside it.

// `cfg(test)` tells clippy that helpers, too, are test code.
#[cfg(test)]
mod channels;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod command;
#[cfg(test)]
mod github;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod real;
#[cfg(test)]
mod redaction;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod server;
#[cfg(test)]
mod smtp;
#[cfg(test)]
mod webhook;
