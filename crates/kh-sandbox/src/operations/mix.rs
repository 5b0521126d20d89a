//! A small mixing function for stable made-up values. Invariant: same input, same output, on every machine; it hides
//! nothing and guards nothing, so it needs no cryptographic strength.

/// Mixes `salt` into `state` (the finaliser of SplitMix64, Steele, Lea and Flood 2014).
pub(crate) fn mix(state: u64, salt: u64) -> u64 {
    let mut value = state ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Mixes a text into `state`.
pub(crate) fn mix_text(state: u64, text: &str) -> u64 {
    text.bytes()
        .fold(mix(state, text.len() as u64), |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A random-looking version 4 UUID that depends on `state` alone.
pub(crate) fn uuid(state: u64) -> String {
    let bits = (u128::from(mix(state, 1)) << 64) | u128::from(mix(state, 2));
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
}
