//! The loopback listeners: admin (health, metrics) and broker (tokens for local callers).
