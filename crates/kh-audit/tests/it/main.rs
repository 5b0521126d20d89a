//! Tests of the audit log through its public interface, on real files.

mod append;
mod crash;
mod manipulation;
mod support;
