//! Randomness as an argument: the operating system's in production, a seeded stream in tests.

use aws_lc_rs::{digest, rand};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where random bytes come from.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` completely.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number below `bound` (zero when `bound` is zero); for jitter, not for keys.
    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes).expect("the operating system's random generator answers");
    }
}

/// A reproducible stream for tests: SHA-256 over seed and counter.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    counter: AtomicU64,
}

impl SeededEntropy {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let count = self.counter.fetch_add(1, Ordering::SeqCst);
            let mut block = digest::Context::new(&digest::SHA256);
            block.update(&self.seed.to_le_bytes());
            block.update(&count.to_le_bytes());
            for (byte, random) in chunk.iter_mut().zip(block.finish().as_ref()) {
                *byte = *random;
            }
        }
    }
}
