//! Which address of a name is used, and from where.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use kh_core::Code;
use kh_net::{ConnectError, Source};

use crate::support::{BlackHole, Names, PATIENCE, connect, egress, listener};

fn v4(last: u8) -> Source {
    Source { v4: Some(Ipv4Addr::new(127, 0, 0, last)), v6: None }
}

#[tokio::test]
async fn a_dead_address_does_not_keep_from_a_live_one() {
    let (_listener, live) = listener("127.0.0.1").await;
    let (closed, refused) = listener("::1").await;
    drop(closed);
    let (first, second) = (BlackHole::new(), BlackHole::new());
    let names = Arc::new(Names::default());
    let egress = egress(&names, Source::default());
    for before in [vec![refused], vec![first.address], vec![first.address, second.address, refused]] {
        names.set("api.example", &[before, vec![live]].concat());
        // one after the other, a single silent address would take two minutes
        assert_eq!(connect(&egress, "api.example", PATIENCE).await.unwrap(), live);
    }
}

#[tokio::test]
async fn all_attempts_together_keep_the_limit() {
    let (first, second) = (BlackHole::new(), BlackHole::new());
    let names = Arc::new(Names::default());
    names.set("api.example", &[first.address, second.address]);
    let egress = egress(&names, Source::default());
    let error = connect(&egress, "api.example", Duration::from_millis(600)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout), "{error:?}");
    assert_eq!(error.code(), Code::UPSTREAM_TIMEOUT);
}

#[tokio::test]
async fn a_changed_name_is_followed_by_the_next_connection() {
    let (_old, old) = listener("127.0.0.1").await;
    let (_new, new) = listener("127.0.0.1").await;
    let names = Arc::new(Names::default());
    let egress = egress(&names, Source::default());
    names.set("api.example", &[old]);
    assert_eq!(connect(&egress, "api.example", PATIENCE).await.unwrap(), old);
    names.set("api.example", &[new]);
    assert_eq!(connect(&egress, "api.example", PATIENCE).await.unwrap(), new);
    assert_eq!(names.asked(), 2, "nothing is remembered");
}

#[tokio::test]
async fn addresses_need_no_look_up_and_may_be_ipv6() {
    let names = Arc::new(Names::default());
    let egress = egress(&names, Source::default());
    for ip in ["127.0.0.1", "::1"] {
        let (listener, address) = listener(ip).await;
        let target = kh_net::Target { host: ip, port: address.port(), server_name: None };
        drop(egress.connect(target, PATIENCE).await.unwrap());
        assert_eq!(listener.accept().await.unwrap().1.ip(), address.ip());
    }
    assert_eq!(names.asked(), 0);
    let error = connect(&egress, "nowhere.example", PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConnectError::Lookup(_)), "{error:?}");
    names.set("empty.example", &[]);
    let error = connect(&egress, "empty.example", PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoAddress), "{error:?}");
}

#[tokio::test]
async fn a_source_address_is_kept_or_there_is_no_connection() {
    let (listener, live) = listener("127.0.0.1").await;
    let (_v6, other_family) = crate::support::listener("::1").await;
    let names = Arc::new(Names::default());
    names.set("both.example", &[other_family, live]);
    names.set("v6.example", &[other_family]);
    let fixed = egress(&names, v4(2));
    assert_eq!(connect(&fixed, "both.example", PATIENCE).await.unwrap(), live, "the family of the source");
    assert_eq!(listener.accept().await.unwrap().1.ip(), Ipv4Addr::new(127, 0, 0, 2));
    let error = connect(&fixed, "v6.example", PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoAddressOfFamily), "{error:?}");
    // the test network: no machine has this address
    let foreign = egress(&names, Source { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), v6: None });
    let error = connect(&foreign, "both.example", PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConnectError::Source(_)), "{error:?}");
    assert_eq!(error.code(), Code::UPSTREAM_UNREACHABLE);
}

#[test]
fn the_id_follows_the_settings() {
    let names = Arc::new(Names::default());
    assert_eq!(egress(&names, v4(2)).id(), egress(&names, v4(2)).id());
    assert_ne!(egress(&names, v4(2)).id(), egress(&names, v4(3)).id());
    assert_ne!(egress(&names, v4(2)).digest(), egress(&names, Source::default()).digest());
}

/// A name that points into the operator's own network is refused before a connection is opened.
#[tokio::test]
async fn private_addresses_are_not_connected_to_where_only_public_ones_are_allowed() {
    let (private, address) = listener("127.0.0.1").await;
    let names = Arc::new(Names::default());
    names.set("api.example", &[address]);
    let anywhere = egress(&names, Source::default());
    assert_eq!(connect(&anywhere, "api.example", PATIENCE).await.unwrap(), address);
    private.accept().await.unwrap();
    let id = anywhere.id();
    let public = anywhere.with_reach(kh_net::Reach::Public);
    assert_ne!(public.id(), id, "connections that the other left are not taken");
    names.set("both.example", &[address, "192.0.2.1:443".parse().unwrap()]);
    for host in ["api.example", "both.example", "127.0.0.1", "::1", "169.254.169.254"] {
        let error = connect(&public, host, PATIENCE).await.unwrap_err();
        assert!(matches!(error, ConnectError::NotAllowed), "{host}: {error:?}");
        assert_eq!(error.code(), Code::UPSTREAM_UNREACHABLE);
    }
    let waiting = tokio::time::timeout(Duration::ZERO, private.accept()).await;
    assert!(waiting.is_err(), "nobody came");
}
