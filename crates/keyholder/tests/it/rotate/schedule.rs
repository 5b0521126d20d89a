//! `serve` rotates by itself, and what follows a promotion reaches programs and people.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    receiver::{Receiver, write_key},
    world::{World, log_in},
};
use crate::harness::{Server, request, text};

/// Looks for something that takes some logins and waits; a busy machine needs the rest.
const TRIES: usize = 1_200;

fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..TRIES {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("never: {what}");
}

fn world(rotation: &str, hook: &Receiver, people: &Receiver) -> World {
    let lines = format!(
        "[hook.crm]\nkind = \"webhook\"\nurl = \"{}\"\nkey_file = \"signing.key\"\n\
         [notify.team]\nkind = \"webhook\"\nurl = \"{}\"\nkey_file = \"signing.key\"\n",
        hook.url, people.url
    );
    let rotation = format!("strategy = \"pair\"\nhooks = [\"crm\"]\nnotify = [\"team\"]\n{rotation}");
    World::keyed(&rotation, &lines, write_key)
}

fn metric(server: &Server, series: &str) -> Option<f64> {
    let answer = request("GET", &format!("{}/metrics", server.admin()), &[], b"");
    let scrape = String::from_utf8(answer.body).unwrap();
    scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).map(|value| value.parse().unwrap())
}

/// No application calls and nobody types a command: the secret is replaced when it is old enough, the broker proves the
/// new one, and the old one dies.
#[test]
fn serve_rotates_what_is_due_by_itself_and_tells_programs_and_people() {
    let (hook, people) = (Receiver::start(204), Receiver::start(204));
    let world = world("interval = \"8s\"\n", &hook, &people);
    let url = world.installation.sandbox.url().to_owned();
    let server = world.installation.serve();
    let is_over = || people.messages().iter().any(|message| message.body.to_string().contains("rotation.completed"));
    until("a rotation is over and somebody is told", is_over);
    let refused = log_in(&url, &world.first).expect_err("the old secret is dead");
    assert!((400..=401).contains(&refused.status), "{refused:?}");

    let age = metric(&server, "keyholder_secret_age_seconds{credential=\"app\"}");
    let needs = metric(&server, "keyholder_rotation_needs_operator{credential=\"app\"}");
    let failures = metric(&server, "keyholder_rotation_failures{credential=\"app\"}");
    assert!(age.is_some(), "the age is not told");
    assert_eq!((needs, failures), (Some(0.0), Some(0.0)));
    assert!(metric(&server, "keyholder_notices_total{channel=\"team\",result=\"sent\"}").unwrap() >= 1.0);
    assert_eq!(metric(&server, "keyholder_notices_total{channel=\"team\",result=\"dropped\"}"), Some(0.0));
    let (code, said) = server.process.stop();
    assert_eq!(code, Some(0), "{said}");

    // each delivery came once, with a name of its own, and no message holds a secret
    let delivered = hook.messages();
    let mut runs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in &delivered {
        assert_eq!(text(&message.body, "type"), "secret.promoted", "{message:?}");
        let data = &message.body["data"];
        assert_eq!((text(data, "credential"), text(data, "delivery")), ("app", message.id.as_str()), "{message:?}");
        assert!(runs.entry(text(data, "run").to_owned()).or_default().insert(message.id.clone()), "twice: {message:?}");
    }
    assert!(!runs.is_empty() && runs.values().all(|ids| ids.len() == 1), "{runs:?}");
    let secret = text(&world.first, "client_secret");
    assert!(!format!("{delivered:?}{:?}{said}", people.messages()).contains(secret));
    world.run(&["audit", "verify"]).done();
}

/// The old secret ends only after every hook has done its work.
#[test]
fn a_hook_that_fails_keeps_the_old_secret_and_says_so() {
    let (hook, people) = (Receiver::start(410), Receiver::start(204));
    let world = world("", &hook, &people);
    let (_, plan) = world.told(&["rotate", "plan", "app"]);
    let steps = plan["plans"][0]["steps"].to_string();
    assert!(steps.contains("posts a signed message"), "{steps}");
    assert!(hook.messages().is_empty(), "a plan calls nobody");

    let (code, status) = world.told(&["rotate", "run", "app"]);
    let told = status.to_string();
    assert!(matches!(code, Some(3 | 4)) && told.contains("crm"), "{code:?} {told}");
    let url = world.installation.sandbox.url();
    assert!(log_in(url, &world.first).is_ok(), "the old secret lives");
    assert_eq!(world.clients().len(), 2, "nothing was pruned");
    assert_eq!(hook.messages().len(), 1, "a refusal is not tried again by itself");
    let told: Vec<_> = people.messages().into_iter().map(|message| text(&message.body, "type").to_owned()).collect();
    assert_eq!(told, ["rotation.begun", "rotation.hook_failed"], "a one-shot command tells people, once");

    // once the receiver takes it, the same delivery is made again, and the run goes on
    hook.answer(204);
    let (_, status) = world.told(&["rotate", "resume", "app"]);
    assert_eq!(text(&status, "state"), "overlap", "{status}");
    let ids: BTreeSet<_> = hook.messages().into_iter().map(|message| message.id).collect();
    assert!(hook.messages().len() >= 2 && ids.len() == 1, "{:?}", hook.messages());
    let told: Vec<_> = people.messages().into_iter().map(|message| text(&message.body, "type").to_owned()).collect();
    assert!(told.iter().any(|kind| kind == "rotation.hook_recovered"), "{told:?}");
}
