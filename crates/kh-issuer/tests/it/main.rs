//! The issuer over the real state: logins, sessions, revocation, clocks, other processes.

#[cfg(test)]
mod access_tokens;
mod binding;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod environments;
#[cfg(test)]
mod login;
#[cfg(test)]
mod management;
#[cfg(test)]
mod revoked;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod signing;
#[cfg(test)]
mod support;
#[cfg(test)]
mod unsteady;
