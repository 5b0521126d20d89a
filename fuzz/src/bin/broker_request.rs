//! What a local caller may send to the broker: query and invalidation report.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _report = kh_admin::broker_api::parse_report(input);
    if let Ok(text) = std::str::from_utf8(input) {
        let _wanted = kh_admin::broker_api::parse_query(text);
    }
});
