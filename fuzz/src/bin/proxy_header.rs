//! The first bytes of a connection behind a proxy: no panic, and the same header whole and piece by piece.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _read = kh_net::fuzzing::proxy_header(input);
});
