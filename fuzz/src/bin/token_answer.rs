//! What a token endpoint may answer: tokens, errors, refresh answers, metadata, discovery. No panic, and a token that
//! is accepted can stand in a header.
#![no_main]

use std::time::Duration;

use kh_core::UnixMillis;
use kh_platform::{
    Address, PlainHttp,
    answer::parse_token_answer,
    cxone::{AllowedHosts, parse_endpoints, parse_provider, parse_refresh_answer, parse_tenant_id},
    oauth2::parse_metadata,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(answer) = parse_token_answer(input, Some(Duration::from_secs(300))) {
        assert!(http::HeaderValue::from_str(answer.access_token.expose()).is_ok());
    }
    let _refreshed = parse_refresh_answer(input);
    let issuer = Address::parse("https://issuer.example", PlainHttp::LoopbackOnly).expect("a fixed address");
    let _metadata = parse_metadata(input, &issuer);
    let hosts = AllowedHosts::platform();
    let _provider = parse_provider(input, &issuer, &hosts);
    if let Ok(text) = std::str::from_utf8(input) {
        if let Some(tenant) = parse_tenant_id(text) {
            let _endpoints = parse_endpoints(input, &tenant, &hosts);
        }
        let _wait = kh_resilience::retry_after::parse(text, UnixMillis(1_700_000_000_000));
        let _address = Address::parse(text, PlainHttp::LoopbackOnly);
    }
});
