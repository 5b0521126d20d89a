//! The forms in which local programs get tokens, each driven by the program that it is for: curl over TCP and over the
//! socket, a child of `exec`, EngFlow's own client of its helper specification, git against a server of git that wants
//! the token, the shims in four languages, and plain clients through the proxy. In each, the caller is searched for the
//! platform's secret and the store's key.

mod exec;
mod helper;
mod http;
mod shims;
mod sightings;
mod world;
