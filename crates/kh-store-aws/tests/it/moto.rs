//! Filled in with moto.
