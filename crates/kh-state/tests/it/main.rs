//! The state against its port and against what breaks databases: kills, full and read-only disks, damaged files,
//! other processes, an audit log that refuses.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod breakage;
#[cfg(test)]
mod child;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod grouping;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod session;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod support;
