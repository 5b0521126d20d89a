//! The configuration file: any bytes give a configuration or mistakes that can be shown, and never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(mistakes) = keyholder::config::parse(input) {
        assert!(!mistakes.all.is_empty(), "refused without a reason");
        let _shown = keyholder::config::render("keyholder.toml", &mistakes, true);
    }
});
