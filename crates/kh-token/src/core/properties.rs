//! Random long sequences of events, with clocks that jump, against the model's invariants.

use proptest::prelude::*;

use super::{
    model::{Event, Model},
    *,
};

fn failure() -> impl Strategy<Value = Failure> {
    let retry_after = || prop::option::of((0_u64..400).prop_map(Duration::from_secs));
    prop_oneof![
        3 => Just(Failure::Rejected),
        1 => Just(Failure::Unusable),
        1 => Just(Failure::RefreshRefused),
        1 => retry_after().prop_map(|retry_after| Failure::RefreshFailed { retry_after }),
        2 => retry_after().prop_map(|retry_after| Failure::RateLimited { retry_after }),
        2 => retry_after().prop_map(|retry_after| Failure::Transient { retry_after }),
        1 => Just(Failure::Store),
        1 => Just(Failure::Aborted),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop_oneof![3 => Just(0), 1 => 1_u64..400].prop_map(|min_ttl| Event::Ask { min_ttl }),
        6 => Just(Event::Read),
        5 => (0_u64..400, any::<bool>()).prop_map(|(life, refresh)| Event::Ok { life, refresh }),
        1 => Just(Event::OkSameToken),
        3 => failure().prop_map(Event::Fail),
        1 => prop_oneof![Just(Event::LateOk), Just(Event::LateFail)],
        3 => prop_oneof![2 => Just(Event::KillCurrent), 1 => Just(Event::KillPrevious)],
        2 => prop_oneof![Just(Event::ChangeSecret), Just(Event::NoticeVersion)],
        1 => prop_oneof![Just(Event::Used), Just(Event::Renew)],
        3 => (1_u64..400).prop_map(Event::Pass),
        2 => (-100_000_i64..100_000).prop_map(Event::WallOnly),
        1 => (1_u64..400).prop_map(Event::MonoOnly),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_breaks_an_invariant(
        events in prop::collection::vec(event(), 1..80),
        idle in prop::option::of((30_u64..300).prop_map(Duration::from_secs)),
    ) {
        let mut model = Model::new(TokenPolicy { idle_ttl: idle, ..TokenPolicy::default() });
        for event in events {
            model.play(event);
        }
    }
}
