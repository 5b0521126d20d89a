//! The rotator against strict fakes of its ports and the real journal in its file: crashes at every boundary, lost
//! answers, competing processes, persons who act, and many runs.

#[cfg(test)]
mod alerts;
#[cfg(test)]
mod competing;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod platform;
#[cfg(test)]
mod real;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod stores;
#[cfg(test)]
mod supply;
#[cfg(test)]
mod volume;
#[cfg(test)]
mod world;
