//! One token per credential, shared by all callers: runs the token core through its ports.
