//! Credential documents and issued secrets: no panic, and no value in an error.
#![no_main]

use kh_core::{SecretBytes, credential::CredentialDocument, issued};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(error) = CredentialDocument::parse(&SecretBytes::new(input.to_vec())) {
        let told = format!("{error} {error:?}");
        assert!(told.len() < 200, "an error that long may hold a value");
    }
    if let Ok(text) = std::str::from_utf8(input) {
        for kind in [issued::IssuedKind::ClientSecret, issued::IssuedKind::Token, issued::IssuedKind::Guard] {
            let _known = issued::is_well_formed(kind, text);
        }
    }
});
