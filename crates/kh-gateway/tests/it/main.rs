//! The gateway over real sockets: its upstreams are small hyper servers in this process, its clients speak either
//! hyper or raw bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod bad_input;
mod calls;
mod drain;
mod environments;
mod events;
mod heal;
mod holder;
mod http2;
mod inbound;
mod life;
mod listeners;
mod local;
mod login;
mod oauth;
mod oauth_bound;
mod observe;
mod proxies;
mod reload;
mod secrecy;
mod security;
mod stores;
mod streams;
mod support;
mod tls;
mod upgrade;
mod upstream;
mod user_sessions;
mod ways;
