//! The short form of a route: any text gives a route that takes what it says, or a mistake with its column.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| kh_policy::fuzzing::require_line(input));
