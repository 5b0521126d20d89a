//! The rotation core: pure state machine of one rotation run.
