//! The security log as a whole: a real file, a real collector over HTTP and TLS, processes that are killed, a disk that is
//! full.

#![cfg(test)]

mod collecting;
mod crash;
mod receiver;
mod rig;
