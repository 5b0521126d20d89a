//! Bodies for the fuzz targets and for the ordinary seeded tests: parsers of what strangers send.

use kh_core::{SecretString, Sha256, UnixMillis};

use crate::events::{Delivery, EVENT_BYTES_MAX, Effect, EventKeys, PlatformEvent};

/// An event: whatever the bytes are, it is refused or what is kept of it is short and printable.
pub fn event(body: &[u8]) {
    let Ok(event) = PlatformEvent::parse(body) else { return };
    let PlatformEvent { id, topic, organization, effect } = event;
    let client = match effect {
        Effect::AskAnew { client } => client,
        Effect::None | Effect::UnknownTopic => None,
    };
    assert!(body.len() <= EVENT_BYTES_MAX);
    for kept in [Some(id), Some(topic), organization, client].into_iter().flatten() {
        assert!(!kept.is_empty() && kept.len() <= 256 && kept.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// The headers of a signed delivery, a line each: nothing that is made without the key is taken.
pub fn delivery(text: &str) {
    let key = EventKeys::parse(&SecretString::copied("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    let key = key.expect("the key of the standard's examples is one");
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (id, timestamp, signatures) = (next(), next(), next());
    let Sha256(body) = Sha256::of(text.as_bytes());
    let delivery = Delivery { id, timestamp, signatures, body: &body };
    for wall in [0, 1_795_219_200_000, u64::MAX] {
        assert!(!key.takes(&delivery, UnixMillis(wall)), "{text:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::vec,
        prelude::*,
        test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
    };

    use super::*;

    /// Inputs of each body.
    const INPUTS: u32 = 100_000;

    fn runner(seed: u8) -> TestRunner {
        let config = Config { cases: INPUTS, failure_persistence: None, ..Config::default() };
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
    }

    /// Pieces of an event, so that many inputs get far.
    const PIECES: [&str; 26] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\u0000",
        " ",
        "\"id\":\"a\"",
        "\"source\":",
        "\"detail-type\":\"x\"",
        "\"aws.partner/genesys.com/cloud/o/n\"",
        "\"aws.partner/genesys.com/cloud//\"",
        "\"detail\":{",
        "\"topicName\":",
        "\"v2.system.token_revoked.u\"",
        "\"v2.audits.entitytype.OAuthClient.entityid.e\"",
        "\"eventBody\":{",
        "\"oauthClientId\":\"c\"",
        "\"entityType\":\"OAuthClient\"",
        "\"action\":\"Delete\"",
        "\"entity\":{\"id\":\"e\"}",
        "null",
        "9e999",
        "\u{2028}",
    ];

    #[test]
    fn a_hundred_thousand_events() {
        let reached = std::cell::Cell::new(0_u32);
        let whole = r#"{"id":"a","source":"aws.partner/genesys.com/cloud/o/n","detail-type":"x","detail":{"topicName":"v2.audits.entitytype.OAuthClient.entityid.e","eventBody":{"entityType":"OAuthClient","action":"Delete","entity":{"id":"e"}}}}"#;
        let changed = (0..whole.len(), any::<u8>()).prop_map(move |(at, byte)| {
            let mut bytes = whole.as_bytes().to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes
        });
        let pieces = vec(prop::sample::select(PIECES.to_vec()), 0..40).prop_map(|pieces| pieces.concat().into_bytes());
        let inputs = prop_oneof![changed, pieces, vec(any::<u8>(), 0..200)];
        let run = runner(1).run(&inputs, |bytes| {
            reached.set(reached.get() + u32::from(PlatformEvent::parse(&bytes).is_ok()));
            event(&bytes);
            Ok(())
        });
        run.unwrap();
        assert!(reached.get() > INPUTS / 100, "only {} were events", reached.get());
    }

    #[test]
    fn a_hundred_thousand_deliveries() {
        let line = prop_oneof![
            "[ -~]{0,40}",
            "msg_[a-z]{1,8}",
            "17952192[0-9]{2}",
            "v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)?",
        ];
        let run = runner(2).run(&vec(line, 0..4), |lines| {
            delivery(&lines.join("\n"));
            Ok(())
        });
        run.unwrap();
    }
}
