//! What a platform answers to the management of its clients and keys. No panic; a change is told as not done only by a
//! status below 500, and clients and roles of any shape are read or refused.
#![no_main]

use kh_core::port::ManageError;
use kh_platform::{
    http::{AnswerHead, Media},
    management::{
        client_document,
        refusal::{Effect, refused},
        superset,
    },
};

libfuzzer_sys::fuzz_target!(|input: (u16, &[u8])| {
    let (status, body) = (100 + input.0 % 500, input.1);
    let head = AnswerHead {
        status,
        retry_after: None,
        correlation_id: None,
        status_text: None,
        media: Media::MaybeJson,
        date: None,
        rate_limit: None,
    };
    let meant = refused(Effect::Change, None, &head, body);
    assert!(status < 500 || matches!(meant, ManageError::Unknown { .. }), "{status} {meant}");
    assert!(meant.to_string().len() < 600, "an error that long may hold a value");
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return };
    let _grants = superset::grants(&value);
    let Some(client) = client_document::parse(value) else { return };
    let (_id, _state, _root) =
        (client_document::id(&client), client_document::state(&client), client_document::root(&client));
    let (_rights, _listed) = (client_document::rights(&client), client_document::listed(&client));
    let _inactive = client_document::in_state(&client, "inactive");
});
