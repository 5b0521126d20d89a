//! The way out to a platform: names that move, and pools that never mix two ways.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kh_net::{Egress, Lookup, Resolve};

use crate::{
    support::Setup,
    upstream::{Upstream, reply},
};

/// A name whose address a test may change.
struct Moving(Mutex<SocketAddr>);

impl Resolve for Moving {
    fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> Lookup<'a> {
        let address = *self.0.lock().unwrap();
        Box::pin(async move { Ok(vec![address]) })
    }
}

#[tokio::test]
async fn a_platform_that_moves_is_followed_when_its_old_connections_have_aged() {
    // with a usual life the pooled connection still serves; with none each call opens its own
    for (life, expected) in [(Duration::from_mins(10), [2, 0]), (Duration::ZERO, [1, 1])] {
        let old = Upstream::start(|_| Box::pin(async { reply(200, &[], "old") })).await;
        let new = Upstream::start(|_| Box::pin(async { reply(200, &[], "new") })).await;
        let names = Arc::new(Moving(Mutex::new(old.address)));
        let mut setup = Setup::new(old.address);
        setup.api_base = "http://api.example".to_owned();
        setup.egress = Arc::new(Egress::trusting(&[]).unwrap().with_resolver(names.clone()));
        setup.config.limits.upstream_life = life;
        let world = setup.start().await;
        assert_eq!(&world.call("GET /api/v2/users").await.body[..], b"old");
        *names.0.lock().unwrap() = new.address;
        assert_eq!(world.call("GET /api/v2/users").await.status, 200);
        assert_eq!([old.seen().len(), new.seen().len()], expected, "{life:?}");
    }
}
