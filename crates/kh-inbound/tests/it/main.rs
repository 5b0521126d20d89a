//! The verifier with real signatures and a real database: keys that rotate, issuers that fail, tokens that must not be
//! taken any more, processes that are killed.

#[cfg(test)]
mod child;
#[cfg(test)]
mod files;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod opaque;
#[cfg(test)]
mod own;
#[cfg(test)]
mod revoked;
#[cfg(test)]
mod succession;
#[cfg(test)]
mod support;
