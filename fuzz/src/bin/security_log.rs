//! What the security log reads that may not be its own: the spool's segments and position, networks of the configuration,
//! location databases; and any text of a caller's on its way into a line.
#![no_main]

use kh_core::port::security::{TOLD_MAX, Told};
use kh_security::fuzzing;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzzing::spool_segment(input);
    fuzzing::spool_position(input);
    fuzzing::location_database(input);
    if let Ok(text) = std::str::from_utf8(input) {
        fuzzing::network(text);
    }
    let told = Told::of_bytes(input);
    assert!(told.as_str().chars().count() <= TOLD_MAX && !told.as_str().chars().any(char::is_control));
});
