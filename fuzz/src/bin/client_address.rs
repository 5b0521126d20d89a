//! Headers in which proxies tell a client's address: no panic, and nothing believed of whom nobody trusts.
#![no_main]

libfuzzer_sys::fuzz_target!(|lines: Vec<&[u8]>| {
    let _found = kh_net::fuzzing::client_address(&lines.iter().copied());
});
