//! Strict fakes of secret stores, for tests.
