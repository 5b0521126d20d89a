//! Tests of what can be listened on.

use super::*;

#[test]
fn addresses_and_paths() {
    for (text, shown) in [
        ("127.0.0.1:8080", Ok("127.0.0.1:8080")),
        ("[::1]:8080", Ok("[::1]:8080")),
        ("[::]:0", Ok("[::]:0")),
        ("unix:/run/keyholder/gateway.sock", Ok("unix:/run/keyholder/gateway.sock")),
        ("unix:gateway.sock", Ok("unix:gateway.sock")),
        ("unix:", Err(ListenError::Path)),
        ("unix:///run/x.sock", Err(ListenError::Path)),
        ("unix:/run/", Err(ListenError::Path)),
        ("unix:/a\0b", Err(ListenError::Path)),
        ("", Err(ListenError::Address)),
        (":8080", Err(ListenError::Address)),
        ("localhost:8080", Err(ListenError::Address)),
        ("::1:8080:", Err(ListenError::Address)),
        ("127.0.0.1", Err(ListenError::Address)),
        ("127.0.0.1:99999", Err(ListenError::Address)),
        ("/run/x.sock", Err(ListenError::Address)),
    ] {
        let parsed = text.parse::<Listen>().map(|listen| listen.to_string());
        assert_eq!(parsed.as_deref(), shown.as_ref().map(|shown| *shown), "{text:?}");
    }
}

/// Two processes that start at once: whoever claims first has the address, and loses it at no moment.
#[test]
fn an_address_is_claimed_without_a_gap() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let first = claim(address.parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let refused = || assert_eq!(claim(address).unwrap_err().kind(), io::ErrorKind::AddrInUse, "{address}");
        refused();
        let workers: Vec<_> = (0..2).map(|_| bind(address).unwrap()).collect();
        refused();
        drop(first);
        refused();
        drop(workers);
        claim(address).unwrap();
    }
}

proptest::proptest! {
    /// Whatever is written there: it is refused, or shown as it is read again.
    #[test]
    fn any_text(text in "\\PC{0,40}|unix:\\PC{0,40}|\\[[0-9a-f:]{0,20}\\]:[0-9]{0,6}|[0-9.]{1,15}:[0-9]{0,6}") {
        if let Ok(listen) = text.parse::<Listen>() {
            let shown = listen.to_string();
            let again = shown.parse::<Listen>().map(|listen| listen.to_string());
            proptest::prop_assert_eq!(again.as_deref(), Ok(shown.as_str()));
        }
    }
}
