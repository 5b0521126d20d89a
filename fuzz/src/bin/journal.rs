//! The journal of a rotation as a damaged disk or another program left it, a record in each line. No panic, in the fold
//! and in the decision after it; a record that is read is written the same again, and an error repeats no value.
#![no_main]

use kh_core::UnixMillis;
use kh_rotation::{Policy, Record, Run, View, decide};

libfuzzer_sys::fuzz_target!(|input: &str| {
    let mut records = Vec::new();
    for line in input.lines() {
        match Record::parse(line) {
            Ok(record) => {
                assert_eq!(Record::parse(&record.to_json()).as_ref(), Ok(&record));
                records.push(record);
            }
            Err(error) => assert!(error.to_string().len() < 120, "an error that long may hold a value"),
        }
    }
    for length in 1..=records.len().min(64) {
        let Ok(run) = Run::replay(records.iter().take(length)) else { return };
        for now in [0, 1_800_000_000_000, u64::MAX] {
            let _decision = decide(&run, &View::default(), &Policy::default(), UnixMillis(now));
        }
    }
});
