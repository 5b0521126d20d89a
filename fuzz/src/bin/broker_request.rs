//! What a local caller may send to the broker: query, invalidation report, report of a pick-up. No panic, and no
//! sighting of the future or in the name of keyholder's own processes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _report = kh_admin::broker_api::parse_report(input);
    if let Some(pickup) = kh_admin::broker_api::pickup::parse(input) {
        let now = kh_core::UnixMillis(1_800_000_000_000);
        for seen in pickup.sightings(now) {
            let first = seen.consumer.split('/').next().unwrap_or_default();
            assert!(seen.at <= now && !["gateway", "broker", "exec"].contains(&first), "{seen:?}");
        }
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let _wanted = kh_admin::broker_api::parse_query(text);
    }
});
