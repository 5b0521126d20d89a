//! Tests of the embedded store through its public interface and its file.

mod behaviour;
mod crash;
mod damage;
mod disk;
mod support;
