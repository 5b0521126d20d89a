//! What a Vault may answer: documents, metadata, logins, lists, refusals; and addresses of one. No panic; what is
//! accepted as a token can stand in a header, and a document is a JSON object.
#![no_main]

use kh_store_vault::{PlainHttp, ServerAddress, wire};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    for status in [200, 404, 503] {
        if let Some(document) = wire::found(status, input).and_then(|found| found.document) {
            assert!(serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(document.expose()).is_ok());
        }
    }
    if let Some(issued) = wire::issued(input) {
        assert!(http::HeaderValue::from_str(issued.token.expose()).is_ok());
    }
    let _secret_id = wire::secret_id(input);
    let _refusal = wire::refusal(input);
    let _written = wire::written(input);
    let _metadata = wire::metadata(input).map(|metadata| metadata.is_surely_live());
    let _settings = wire::settings(input);
    let _keys = wire::keys(input);
    let _capabilities = wire::capabilities(input);
    let _lookup = wire::lookup(input);
    let _creation_path = wire::creation_path(input);
    if let Ok(text) = std::str::from_utf8(input) {
        let _address = ServerAddress::parse(text, PlainHttp::LoopbackOnly);
    }
});
