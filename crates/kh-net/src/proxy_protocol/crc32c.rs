//! CRC-32C (Castagnoli; RFC 3720 appendix B.4), for headers of a few hundred bytes.

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0_u32;
    let mut rest = table.as_mut_slice();
    while let Some((entry, after)) = rest.split_first_mut() {
        let mut crc = at;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        *entry = crc;
        at += 1;
        rest = after;
    }
    table
};

/// The checksum of these parts one after the other.
pub(super) fn crc32c(parts: [&[u8]; 3]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let [low, ..] = (crc ^ u32::from(*byte)).to_le_bytes();
        crc >> 8 ^ TABLE.get(usize::from(low)).copied().unwrap_or_default()
    };
    !parts.into_iter().flatten().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // RFC 3720 appendix B.4, and the check value of the algorithm's catalogue
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (&b"123456789"[..], 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&[], 0),
        ] {
            assert_eq!(crc32c([bytes, &[], &[]]), expected);
            let (one, other) = bytes.split_at(bytes.len() / 2);
            assert_eq!(crc32c([one, &[], other]), expected);
        }
    }
}
