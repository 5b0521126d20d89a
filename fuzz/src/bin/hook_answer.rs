//! What receivers of a delivery answer and what lies in their files: workloads of Kubernetes, the sealing key of GitHub,
//! keys for signatures. No panic; a rollout is complete only where no number is negative.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kh_deliver::fuzzing::workload(input);
    kh_deliver::fuzzing::sealing_key(input);
    if let Ok(text) = std::str::from_utf8(input) {
        let keys = kh_core::SecretString::copied(text);
        if let Err(error) = kh_deliver::SigningKeys::parse(&keys) {
            assert!(error.to_string().len() < 120, "an error that long may hold a key");
        }
        let _place = kh_deliver::Place::named(text);
        let _owner = kh_deliver::Owner::repository(text);
    }
});
