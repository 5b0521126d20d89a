//! Retry-After, backoff and retry decisions: pure functions of state and time.
