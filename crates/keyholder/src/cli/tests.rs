//! The command line as clap sees it.

use super::*;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

/// `--help` shows examples everywhere.
#[test]
fn every_command_has_examples() {
    fn walk(command: &clap::Command, missing: &mut Vec<String>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let after = below.get_after_help().map(ToString::to_string).unwrap_or_default();
            let parent_has = command.get_after_help().is_some_and(|help| help.to_string().contains(below.get_name()));
            let covered = after.contains("keyholder ") || parent_has || command.get_name() != "keyholder";
            if !covered {
                missing.push(below.get_name().to_owned());
            }
            walk(below, missing);
        }
    }
    let mut missing = Vec::new();
    walk(&Cli::command(), &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

/// However narrow a terminal is, an example can be pasted and a paragraph stays as it was written.
#[test]
fn closing_texts_are_not_wrapped() {
    fn walk(command: &clap::Command, seen: &mut usize) {
        if let Some(text) = command.get_after_help().map(|text| with_spaces(&text.to_string())) {
            let help = with_spaces(&command.clone().term_width(40).render_long_help().to_string());
            assert!(help.contains(text.trim_end()), "{}: {help}", command.get_name());
            *seen += 1;
        }
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        below.for_each(|below| walk(below, seen));
    }
    let mut command = keep_lines(Cli::command());
    command.build();
    let mut seen = 0;
    walk(&command, &mut seen);
    assert!(seen > 20, "{seen}");
    let arguments = ["keyholder", "token", "verify", "--help"].map(OsString::from);
    let help = with_spaces(&parse(&arguments).unwrap_err().render().to_string());
    assert!(help.contains("--audience my-api < token\n"), "{help}");
}

/// A flag that would take a secret is told as a secret, and what was typed is not repeated.
#[test]
fn a_secret_behind_a_flag_is_not_repeated() {
    for (line, way) in [
        ("secret set acme --client-secret foo", "--file"),
        ("secret set acme --client-secret=foo", "--file"),
        ("secret set acme --secret foo", "--file"),
        ("secret set --password=foo acme", "--file"),
        ("init --client-secret foo", "--secret-stdin or --secret-file"),
        ("init --secret=foo", "--secret-stdin or --secret-file"),
        ("token get acme --token foo", "standard input"),
    ] {
        let arguments: Vec<OsString> = format!("keyholder {line}").split(' ').map(OsString::from).collect();
        let error = parse(&arguments).unwrap_err();
        let told = secret_flag(&error, &arguments).unwrap().to_json();
        assert!(told.contains("a secret must not stand on the command line"), "{line}: {told}");
        assert!(told.contains(way) && told.contains("rotate the secret") && !told.contains("foo"), "{line}: {told}");
    }
    let arguments: Vec<OsString> = ["keyholder", "secret", "set", "acme", "--versoin"].map(OsString::from).into();
    assert!(secret_flag(&parse(&arguments).unwrap_err(), &arguments).is_none());
}

/// A secret cannot be an argument of any command: every value that an option takes is named, and none is a secret.
#[test]
fn no_argument_takes_a_secret() {
    fn walk(command: &clap::Command) {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let secret = ["secret", "password", "passphrase", "token"].iter().any(|word| name.ends_with(word));
            assert!(!secret, "{} --{name}", command.get_name());
        }
        command.get_subcommands().for_each(walk);
    }
    walk(&Cli::command());
}
