//! Every command line that a run tells people to type is one that this program takes.

use clap::Parser;
use kh_core::{
    UnixMillis,
    port::{Strategy, rotation_journal::ApprovalOf, secret_management::Rotator},
    rotation::{ManagedId, RunId},
};
use kh_rotation::{Begin, Level, Place, PlatformFacts, Record, Run, Step, status::command};
use kh_rotator::Halt;

use crate::cli::{Cli, Command};

/// The functions that make such lines; each is called below.
const SOURCE: &str = include_str!("../../../../kh-rotation/src/status/command.rs");

fn run() -> Run {
    let begin = Begin {
        run: RunId(uuid::Uuid::from_u128(7)),
        credential: "acme-prod".parse().unwrap(),
        strategy: Strategy::Pair,
        level: Level::Regular,
        generation: 2,
        by: Rotator::First,
        own: false,
        places: vec![Place { store: "v:kv/a=b".to_owned(), path: "kv/a=b".parse().unwrap() }],
        hooks: Vec::new(),
        platform: PlatformFacts {
            reversible_stop: true,
            active_max: None,
            settles_within_ms: 0,
            token_life_max_ms: 0,
            second_rotator: false,
        },
        earlier: Vec::new(),
        actor: "ann".to_owned(),
        reason: "test".to_owned(),
    };
    Run::begin(&Record::new(UnixMillis(0), Step::Begun(Box::new(begin)))).unwrap()
}

#[test]
fn every_next_command_is_taken_by_the_command_line() {
    let run = run();
    let approvals = [ApprovalOf::Start, ApprovalOf::Prune, ApprovalOf::Revoke];
    let mut lines = vec![
        command::status(&run),
        command::resume(&run),
        command::adopt(&run, "v:kv/a=b", "7"),
        command::own(&run, &ManagedId("MZHI54OO====".to_owned())),
        command::abort(&run),
        command::abandon(&run),
        command::rollback(&run),
        command::now(&run),
    ];
    assert_eq!(SOURCE.matches("\npub fn ").count(), lines.len() + 1, "each function of the module is called here");
    lines.extend(approvals.map(|of| command::approve(&run, of)));
    lines.push(format!("keyholder rotate hold {} --lift", run.began().credential));
    for line in lines {
        let parsed = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(matches!(parsed.command, Command::Rotate(_)), "{line}");
    }
}

/// An earlier version forgot the old document when it made room at a full platform.
#[test]
fn a_run_whose_escrow_is_gone_is_told_how_to_end_it() {
    let halt = Halt::NoEscrow { run: RunId(uuid::Uuid::from_u128(7)), name: "old" };
    let told = super::world::halt(&halt).in_one_line();
    assert!(told.contains("or keyholder rotate abort") && told.ends_with(" --leave --reason TEXT"), "{told}");
}

/// A store that holds nothing has no version to go on from.
#[test]
fn only_a_version_is_adopted() {
    let taken =
        |adopted: &str| Cli::try_parse_from(["keyholder", "rotate", "resume", "app", "--adopt", adopted]).is_ok();
    for (adopted, expected) in
        [("store:app=7", true), ("v:kv/a=b=7", true), ("store:app=none", false), ("store:app=", false), ("=7", false)]
    {
        assert_eq!(taken(adopted), expected, "{adopted}");
    }
}
