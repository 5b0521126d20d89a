//! Success answers as a table, and a property: no bytes make the parser panic or tell a secret.

use proptest::prelude::*;

use super::*;

const OK: &str = r#"{"access_token":"tok-1","token_type":"bearer","expires_in":86400}"#;

fn life(body: &str) -> Result<u64, AnswerError> {
    parse_token_answer(body.as_bytes(), None).map(|answer| answer.expires_in.as_secs())
}

#[test]
fn successes() {
    for (body, seconds) in [
        (OK, 86_400),
        (r#"{"access_token":"a","token_type":"Bearer","expires_in":"3599"}"#, 3599),
        (r#"{"access_token":"a","token_type":"BEARER","expires_in":1.9,"x":{"y":[1]}}"#, 1),
        (r#" {"access_token":"a","token_type":"bearer","expires_in":18446744073709551615} "#, 38_880_000),
        (r#"{"access_token":"a","token_type":"bearer","expires_in":1e300}"#, 38_880_000),
        (r#"{"access_token":"a","token_type":"bearer","expires_in":1,"refresh_token":""}"#, 1),
    ] {
        assert_eq!(life(body), Ok(seconds), "{body}");
    }
    let full = parse_token_answer(
        br#"{"access_token":"a.b-c_d~e+f/g==","token_type":"Bearer","expires_in":5,"refresh_token":"r","id_token":"i"}"#,
        None,
    )
    .unwrap();
    assert_eq!(full.access_token.expose(), "a.b-c_d~e+f/g==");
    assert_eq!(full.refresh_token.unwrap().expose(), "r");
    assert_eq!(full.id_token.unwrap().expose(), "i");
}

#[test]
fn an_assumed_life_stands_in_only_where_it_is_given() {
    let body = br#"{"access_token":"a","token_type":"bearer"}"#;
    assert_eq!(parse_token_answer(body, None).unwrap_err(), AnswerError::NoLifetime);
    let assumed = parse_token_answer(body, Some(Duration::from_mins(5))).unwrap();
    assert_eq!(assumed.expires_in, Duration::from_mins(5));
    let told = parse_token_answer(OK.as_bytes(), Some(Duration::from_mins(5))).unwrap();
    assert_eq!(told.expires_in, Duration::from_hours(24));
}

#[test]
fn malformed_successes() {
    use AnswerError::{BadToken, Empty, NoLife, NoLifetime, NoToken, NotBearer};
    let long = format!(r#"{{"access_token":"{}","token_type":"bearer","expires_in":9}}"#, "x".repeat(TOKEN_MAX + 1));
    for (body, expected) in [
        ("", Empty),
        (" \n\t", Empty),
        ("{}", NoToken),
        (r#"{"access_token":null,"token_type":"bearer","expires_in":9}"#, NoToken),
        (r#"{"access_token":"","token_type":"bearer","expires_in":9}"#, NoToken),
        (r#"{"access_token":"a b","token_type":"bearer","expires_in":9}"#, BadToken("access_token")),
        ("{\"access_token\":\"a\\r\\nX: y\",\"token_type\":\"bearer\",\"expires_in\":9}", BadToken("access_token")),
        (r#"{"access_token":"é","token_type":"bearer","expires_in":9}"#, BadToken("access_token")),
        (
            r#"{"access_token":"a","token_type":"bearer","expires_in":9,"refresh_token":"\u0000"}"#,
            BadToken("refresh_token"),
        ),
        (&long, BadToken("access_token")),
        (r#"{"access_token":"a","token_type":"mac","expires_in":9}"#, NotBearer),
        (r#"{"access_token":"a","expires_in":9}"#, NotBearer),
        (r#"{"access_token":"a","token_type":"bearer"}"#, NoLifetime),
        (r#"{"access_token":"a","token_type":"bearer","expires_in":0}"#, NoLife),
        (r#"{"access_token":"a","token_type":"bearer","expires_in":0.5}"#, NoLife),
    ] {
        assert_eq!(life(body), Err(expected), "{body:.80}");
    }
    for body in [
        "null",
        "[]",
        r#"["a","bearer",9,null,null]"#,
        "<html>",
        &OK[..40],
        r#"{"access_token":7,"token_type":"bearer","expires_in":9}"#,
        r#"{"access_token":"a","access_token":"b","token_type":"bearer","expires_in":9}"#,
        r#"{"access_token":"a","token_type":"bearer","expires_in":-1}"#,
        r#"{"access_token":"a","token_type":"bearer","expires_in":"9 s"}"#,
        r#"{"access_token":"a","token_type":"bearer","expires_in":9} x"#,
        &format!(r#"{{"access_token":{}}}"#, "[".repeat(100_000)),
    ] {
        assert!(matches!(life(body), Err(AnswerError::NotJson { .. })), "{body:.80}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        drop(parse_token_answer(&body, None));
    }

    #[test]
    fn errors_never_tell_the_token(cut in 0_usize..100, flip in 0_usize..100) {
        let mut body = br#"{"access_token":"SECRETSECRET","refresh_token":"SECRETSECRET","token_type":"bearer","expires_in":9}"#.to_vec();
        body.truncate(cut);
        if let Some(byte) = body.get_mut(flip) {
            *byte ^= 0x15;
        }
        if let Err(error) = parse_token_answer(&body, None) {
            let told = format!("{error} {error:?}").contains("SECRET");
            prop_assert!(!told);
        }
    }
}
