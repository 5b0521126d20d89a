//! Who hands out tokens in the same process hears of a swap in time.

use std::sync::{Arc, Mutex};

use kh_core::{
    CredentialName,
    port::{BoxFuture, Strategy},
};
use kh_rotation::{End, Escrow};
use kh_rotator::{FreshToken, Patience, Standing, Subject, TokenSupply, Wanted, drive, open};
use tokio_util::sync::CancellationToken;

use crate::{platform::Call, world::World};

/// Notes what it is asked and what the world was like then.
struct Heard {
    world: Arc<World>,
    can: bool,
    told: Mutex<Vec<String>>,
}

impl Heard {
    fn note(&self, what: &str) {
        let regenerated = self.world.platform.state.lock().unwrap().calls.contains(&Call::Regenerate);
        let served = self.world.platform.accepts(&self.world.stores[0].document());
        self.told.lock().unwrap().push(format!("{what}, regenerated {regenerated}, served {served}"));
    }
}

impl TokenSupply for Heard {
    fn renew<'a>(&'a self, _credential: &'a CredentialName) -> BoxFuture<'a, Option<FreshToken>> {
        self.note("renew");
        let token = self.can.then(|| self.world.platform.login(&self.world.stores[0].document())).flatten();
        let expires_at = self.world.now().plus(std::time::Duration::from_hours(1));
        Box::pin(async move { token.map(|token| FreshToken { token, expires_at }) })
    }

    fn promoted(&self, _credential: &CredentialName) {
        self.note("promoted");
    }
}

async fn swap(can: bool) -> (Vec<String>, bool) {
    let world = Arc::new(World::new(Strategy::Swap, 7));
    let heard = Arc::new(Heard { world: Arc::clone(&world), can, told: Mutex::default() });
    let services = world.boot();
    let supply = Some(Arc::<Heard>::clone(&heard) as Arc<dyn TokenSupply>);
    let subject = Arc::new(Subject { supply, ..(*world.subject()).clone() });
    let mut session = open(&services, &subject, Some(Wanted::scheduled())).await.unwrap().unwrap();
    let mut seen = false;
    loop {
        let standing = session.step().await.unwrap();
        let run = session.run().began().run;
        if !seen && services.journal.escrow(run, Escrow::Token.as_str()).await.unwrap().is_some() {
            seen = true;
        }
        if standing.is_some() {
            break;
        }
    }
    let stop = CancellationToken::new();
    let standing = drive(&mut session, &services, Patience::UntilEnd, &stop).await.unwrap();
    assert_eq!(standing, Some(Standing::Ended(End::Completed { unknown: Vec::new() })));
    assert_eq!(session.run().old_tokens_alive(), Some(world.platform.tokens_survive));
    let told = heard.told.lock().unwrap().clone();
    (told, seen)
}

#[tokio::test]
async fn the_token_is_renewed_before_the_regenerate_and_the_promotion_is_told_after_it() {
    let expected = [
        "renew, regenerated false, served true",
        "promoted, regenerated true, served true",
        "promoted, regenerated true, served true",
    ];
    for can in [true, false] {
        let (told, seen) = swap(can).await;
        assert_eq!(told, expected, "one renewal, and one word for each store");
        assert!(seen, "without a token from there the run fetches its own");
    }
}
