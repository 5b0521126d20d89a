//! The schema and the reader know the same keys, and judge alike.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::{self, EXAMPLE, mistake::Sink, reader::Section as Read, sections};

/// The tables by the path they have in a file; named ones under the name of their form.
fn tables() -> BTreeMap<String, &'static Section> {
    fn add(path: String, section: &'static Section, all: &mut BTreeMap<String, &'static Section>) {
        for key in section.keys {
            if let Shape::Table(below) | Shape::Tables(below) = &key.shape {
                add(format!("{path}.{}", key.name), below, all);
            }
        }
        all.insert(path, section);
    }
    let mut all = BTreeMap::new();
    for (top, what) in SECTIONS {
        match what {
            Top::One(section) => add((*top).to_owned(), section, &mut all),
            Top::Named(_, forms) => {
                forms.iter().for_each(|(form, section)| add(format!("{top}.{form}"), section, &mut all));
            }
        }
    }
    all
}

/// A value of this form, as TOML. `name` makes paths differ.
fn sample(shape: &Shape, name: &str) -> String {
    match shape {
        Shape::Text if name == "level" => "\"debug\"".to_owned(),
        Shape::Text => "\"word\"".to_owned(),
        Shape::Path => format!("\"some/{name}\""),
        Shape::Duration => "\"15m\"".to_owned(),
        Shape::Number(least, _) => least.to_string(),
        Shape::Share => "0.25".to_owned(),
        Shape::Flag => "true".to_owned(),
        Shape::Listen | Shape::ListenOrOff => "\"127.0.0.1:0\"".to_owned(),
        Shape::Listens => "[\"127.0.0.1:0\", \"[::1]:443\", \"unix:/run/a.sock\"]".to_owned(),
        Shape::Mode => "\"0660\"".to_owned(),
        Shape::Texts => "[\"a\", \"b\"]".to_owned(),
        Shape::Numbers(least, _) => format!("[{least}, {}]", least + 1),
        Shape::Url => "\"https://example.com\"".to_owned(),
        Shape::HttpUrl => "\"http://collector.example:4318\"".to_owned(),
        Shape::Servers => "[\"https://a.example.com\", \"https://b.example.com:8200\"]".to_owned(),
        Shape::Urls => "[\"https://example.com\"]".to_owned(),
        Shape::Proxy => "\"http://proxy.example.com:3128\"".to_owned(),
        Shape::Sources => "[\"192.0.2.10\", \"2001:db8::10\"]".to_owned(),
        Shape::Choice(words) => format!("{:?}", words[0]),
        Shape::Region => "\"eu-central-1\"".to_owned(),
        Shape::Environment => "\"production\"".to_owned(),
        Shape::Area => "\"na1\"".to_owned(),
        Shape::StoreReference => "\"store:acme\"".to_owned(),
        Shape::StoreReferences => "[\"store:acme\", \"store:acme/other\"]".to_owned(),
        Shape::Names => "[\"webhook\"]".to_owned(),
        Shape::Credential => format!("{name:?}"),
        Shape::Word(word) => format!("{:?}", word.good),
        Shape::Words(word) => format!("[{:?}]", word.good),
        Shape::Variable => "\"A_VARIABLE\"".to_owned(),
        Shape::FileName => "\"store.key\"".to_owned(),
        Shape::Name => "\"genesys\"".to_owned(),
        Shape::Scalar => "7".to_owned(),
        Shape::Scalars => "[\"a\", 7, true]".to_owned(),
        Shape::Table(_) | Shape::Tables(_) => unreachable!("tables have no sample"),
    }
}

/// Values that are wrong for this form, as TOML.
fn wrong(shape: &Shape) -> Vec<String> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    match shape {
        Shape::Word(word) => {
            let bad = word.bad.iter().map(|text| format!("{text:?}"));
            bad.chain(["1".to_owned(), "[]".to_owned()]).collect()
        }
        Shape::Words(word) => {
            let bad = word.bad.iter().map(|text| format!("[{text:?}]"));
            bad.chain(["1".to_owned(), format!("{:?}", word.good)]).collect()
        }
        other => owned(&usual_wrong(other)),
    }
}

fn usual_wrong(shape: &Shape) -> Vec<&'static str> {
    let text = vec!["1", "true", "[]", "{ a = 1 }"];
    let refused = match shape {
        Shape::Text => vec![],
        Shape::Path => vec!["\"\""],
        Shape::Duration => vec!["\"5\"", "\"0s\"", "\"1.5h\"", "\"5 m\"", "\"-5s\""],
        Shape::Number(..) => return vec!["0", "-1", "\"1\"", "1.5", "[]", "99999999999999999999"],
        Shape::Share => return vec!["-0.1", "1.1", "2", "\"1\"", "[]"],
        Shape::Flag => return vec!["0", "\"true\"", "[]"],
        Shape::Listen | Shape::ListenOrOff => vec!["\":80\"", "\"localhost:80\"", "\"127.0.0.1\"", "\"on\""],
        Shape::Listens => {
            return vec!["1", "\"127.0.0.1:80\"", "[1]", "[\":80\"]", "[\"unix:\"]", "[\"unix://a\"]", "{ a = 1 }"];
        }
        Shape::Mode => vec!["\"\"", "\"0960\"", "\"0060\"", "\"1777\"", "\"rw\"", "\"+660\""],
        Shape::Texts => return vec!["1", "\"a\"", "[1]"],
        Shape::Numbers(..) => return vec!["1", "\"a\"", "[\"1\"]", "[-1]", "[99999999999]", "[1.5]"],
        Shape::Url => vec![
            "\"\"",
            "\"example.com\"",
            "\"ftp://a\"",
            "\"http://example.com\"",
            "\"https://u:p@a\"",
            "\"https://a?b\"",
        ],
        Shape::HttpUrl => vec!["\"\"", "\"a:1\"", "\"ftp://a\"", "\"https://u:p@a\"", "\"https://a?b\""],
        Shape::Servers => {
            return vec!["1", "\"\"", "\"http://example.com\"", "[]", "[1]", "[\"a\"]", "[\"https://u:p@a\"]"];
        }
        Shape::Urls => return vec!["1", "\"https://a\"", "[\"a\"]", "[\"http://example.com\"]"],
        Shape::Proxy => vec![
            "\"\"",
            "\"proxy.example.com:3128\"",
            "\"https://proxy.example.com\"",
            "\"socks5://proxy.example.com\"",
            "\"http://user:word@proxy.example.com:3128\"",
            "\"http://proxy.example.com/path\"",
        ],
        Shape::Sources => {
            return vec![
                "1",
                "\"192.0.2.10\"",
                "[1]",
                "[\"\"]",
                "[\"host\"]",
                "[\"192.0.2.10:80\"]",
                "[\"10.0.0.0/8\"]",
            ];
        }
        Shape::Choice(_) => vec!["\"no-such-word\""],
        Shape::Region => vec!["\"mars-1\"", "\"\""],
        Shape::Environment => vec!["\"\"", "\"Production\"", "\"1st\"", "\"a b\""],
        Shape::Area => vec!["\"\"", "\"na-1\""],
        Shape::StoreReference => vec!["\"acme\"", "\"store:\"", "\"store:-a\"", "\"a:/b\"", "\"a:b c\"", "\":b\""],
        Shape::StoreReferences => return vec!["1", "\"store:a\"", "[\"acme\"]", "[1]"],
        Shape::Names => return vec!["1", "\"webhook\"", "[\"\"]", "[1]"],
        Shape::Scalar => return vec!["1.5", "\"\"", "[]", "{ a = 1 }"],
        Shape::Scalars => return vec!["1", "[]", "[1.5]", "[\"\"]", "[[1]]", "\"a\""],
        Shape::Word(_) | Shape::Words(_) => unreachable!("words bring their own"),
        Shape::Tables(_) => return vec!["1", "\"a\"", "[1]", "{ a = 1 }", "[{ a = 1 }]"],
        Shape::Variable => vec!["\"\"", "\"a b\"", "\"lower\""],
        Shape::FileName => vec!["\"\"", "\"a/b\"", "\"..\"", "\".hidden\""],
        Shape::Name | Shape::Credential => vec!["\"\"", "\"-a\""],
        Shape::Table(_) => return vec!["1", "\"a\"", "[]"],
    };
    [text, refused].concat()
}

/// A file of single-line tables: path to lines of `key = value`.
type File = BTreeMap<String, BTreeMap<String, String>>;

fn write(file: &File) -> String {
    let tables = file.iter().map(|(path, keys)| {
        let lines = keys.iter().map(|(key, value)| format!("{key} = {value}\n"));
        let head = if is_list(path) { format!("[[{path}]]") } else { format!("[{path}]") };
        format!("{head}\n{}", lines.collect::<String>())
    });
    tables.collect()
}

/// Whether the tables of this path stand in a list.
fn is_list(path: &str) -> bool {
    let Some((parent, name)) = path.rsplit_once('.') else { return false };
    let Some(section) = tables().get(parent).copied() else { return false };
    section.keys.iter().any(|key| key.name == name && matches!(key.shape, Shape::Tables(_)))
}

/// A good file with the table `path` and its keys `with`, and whatever else it needs.
fn around(path: &str, with: &[&str]) -> File {
    let all = tables();
    let section = all[path];
    let wanted = |key: &&Key| key.required || with.contains(&key.name);
    let filled = |section: &Section, wanted: &dyn Fn(&&Key) -> bool| {
        let keys = section
            .keys
            .iter()
            .filter(|key| !matches!(key.shape, Shape::Table(_) | Shape::Tables(_)))
            .filter(|key| wanted(key));
        keys.map(|key| (key.name.to_owned(), sample(&key.shape, key.name))).collect::<BTreeMap<_, _>>()
    };
    let mut file = File::new();
    file.insert(path.to_owned(), filled(section, &wanted));
    if path.starts_with("events.") {
        let required = |key: &&Key| key.required;
        file.insert("issuer.genesys".to_owned(), filled(all["issuer.genesys"], &required));
    }
    if path == "issuer.genesys" || path.starts_with("events.") {
        let needed = |key: &&Key| key.required || key.name == "region";
        file.insert("platform.genesys".to_owned(), filled(all["platform.genesys"], &needed));
        let required = |key: &&Key| key.required;
        file.insert("credential.credential".to_owned(), filled(all["credential.credential"], &required));
    }
    if path.starts_with("inbound.") {
        let required = |key: &&Key| key.required;
        let first = |section: &Section| section.any_of.first().copied().unwrap_or_default();
        let parents = path.match_indices('.').map(|(at, _)| &path[..at]).filter(|parent| all.contains_key(*parent));
        for parent in parents {
            let section = all[parent];
            let wanted = |key: &&Key| required(key) || first(section).contains(&key.name);
            file.insert(parent.to_owned(), filled(section, &wanted));
        }
    }
    if path.starts_with("credential.") {
        let needed = |key: &&Key| key.required || key.name == "region";
        file.insert("platform.genesys".to_owned(), filled(all["platform.genesys"], &needed));
        let required = |key: &&Key| key.required;
        let parents = path.match_indices('.').map(|(at, _)| &path[..at]).filter(|parent| all.contains_key(*parent));
        file.extend(parents.map(|parent| (parent.to_owned(), filled(all[parent], &required))));
    }
    add_what_is_named(path, &mut file);
    file
}

/// The sections that a file's names are about.
fn add_what_is_named(path: &str, file: &mut File) {
    let all = tables();
    let names = |key: &str| file.get(path).is_some_and(|keys| keys.contains_key(key));
    let required = |of: &str, kind: &str| {
        let keys = all[of].keys.iter().filter(|key| key.required);
        let keys = keys.map(|key| (key.name.to_owned(), sample(&key.shape, key.name)));
        let mut keys: BTreeMap<_, _> = keys.collect();
        keys.entry("platform".to_owned()).and_modify(|platform| *platform = format!("{kind:?}"));
        keys
    };
    let (mut more, mut renamed) = (File::new(), Vec::new());
    if names("hooks") {
        more.insert("hook.webhook".to_owned(), required("hook.webhook", ""));
    }
    if names("notify") {
        more.insert("notify.webhook".to_owned(), required("notify.webhook", ""));
    }
    if path.starts_with("inbound.") {
        let keys = [("kind", "\"jwks\""), ("iss", "[\"https://issuer.example\"]"), ("jwks_file", "\"keys.json\"")];
        more.insert("issuer.webhook".to_owned(), keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
    if names("fallback") {
        let keys =
            [("kind", "\"aws\""), ("region", "\"eu-west-1\"")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        more.insert("secret_store.webhook".to_owned(), keys.into());
    }
    for key in ["rotator", "rotator_second"] {
        if names(key) {
            let form = path.trim_start_matches("platform.");
            let name = format!("{form}-{}", key.replace('_', "-"));
            renamed.push((key, format!("{name:?}")));
            more.insert(format!("credential.{name}"), required("credential.credential", form));
        }
    }
    for (name, keys) in more {
        file.entry(name).or_insert(keys);
    }
    for (key, name) in renamed {
        file.get_mut(path).unwrap().insert(key.to_owned(), name);
    }
}

/// The smallest set of alternatives that goes with `key`.
fn companions(section: &'static Section, key: &'static str) -> Vec<&'static str> {
    let with_it = section.any_of.iter().find(|set| set.contains(&key));
    let others = section.any_of.iter().find(|set| {
        !section.at_most_one.contains(&key) || set.iter().all(|other| !section.at_most_one.contains(other))
    });
    let chosen = with_it.or(others).copied().unwrap_or_default();
    let beside = section.beside.iter().filter(|(this, _)| *this == key).map(|(_, other)| *other);
    [chosen, &[key]].concat().into_iter().chain(beside).collect()
}

struct Judge(jsonschema::Validator);

impl Judge {
    fn new() -> Self {
        Self(jsonschema::draft202012::new(&schema()).expect("the schema is a schema"))
    }

    fn schema_accepts(&self, text: &str) -> bool {
        toml::from_str::<Value>(text).is_ok_and(|value| self.0.is_valid(&value))
    }

    /// Both verdicts, which must be the same.
    fn agree(&self, text: &str, expected: bool) {
        let reader = config::parse(text.as_bytes());
        let told = reader.as_ref().err().map(|mistakes| format!("{:?}", mistakes.all));
        assert_eq!(reader.is_ok(), expected, "the reader says {told:?}\n{text}");
        let value = toml::from_str::<Value>(text).ok();
        let told: Option<Vec<String>> =
            value.as_ref().map(|value| self.0.iter_errors(value).map(|error| error.to_string()).collect());
        assert_eq!(told.as_ref().is_some_and(Vec::is_empty), expected, "the schema says {told:?}\n{text}");
    }
}

/// Which keys the reader asks for in a file, by the path of their table.
fn asked(text: &str) -> BTreeSet<(String, &'static str)> {
    let sink = Sink::new(text);
    let (table, _) = toml::de::DeTable::parse_recoverable(text);
    drop(sections::read(Read::root(table.get_ref(), &sink)));
    sink.asked.take().into_iter().collect()
}

#[test]
fn the_schema_is_one() {
    assert!(jsonschema::draft202012::meta::is_valid(&schema()));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let page = std::fs::read_to_string(root.join("docs/reference").join(FILE_NAME)).unwrap_or_default();
    assert!(page == text(), "docs/reference/{FILE_NAME} is out of step; run cargo xtask docs");
}

/// Whoever adds a key to the reader reads here what else to add, and where.
#[test]
fn the_reader_and_the_schema_know_the_same_keys() {
    let tables = tables();
    let mut read = BTreeSet::new();
    for (path, section) in &tables {
        let all: Vec<_> = section.keys.iter().map(|key| key.name).collect();
        for with in [&[][..], &all] {
            let mut file = around(path, with);
            // a table is read when the tables around it are there
            let parents = path.match_indices('.').map(|(at, _)| path[..at].to_owned());
            file.extend(parents.filter(|parent| tables.contains_key(parent)).map(|parent| (parent, BTreeMap::new())));
            read.extend(asked(&write(&file)));
        }
    }
    let named = |name: &str| SECTIONS.iter().any(|(top, what)| *top == name && matches!(what, Top::Named(..)));
    let mut missing = Vec::new();
    // sections that only stand there because another one names them
    let helping = |path: &str| {
        path.starts_with("credential.") && path.contains("-rotator")
            || path.ends_with(".webhook") && !tables.contains_key(path)
    };
    for (path, key) in &read {
        if helping(path) {
            continue;
        }
        if (path.is_empty() && SECTIONS.iter().any(|(top, _)| top == key)) || named(path) {
            continue;
        }
        match tables.get(path) {
            None if path.is_empty() => missing.push(format!(
                "the reader reads a section [{key}]: add (\"{key}\", Top::One(&{})) to SECTIONS and its table to config/keys/tables.rs",
                key.to_uppercase()
            )),
            None => missing.push(format!("the reader reads {key} in [{path}], which config/keys/tables.rs does not have")),
            Some(section) if section.keys.iter().any(|known| known.name == *key) => {}
            Some(_) => missing.push(format!(
                "the reader reads {key} in [{path}]: add Key::new(\"{key}\", Shape::..., \"What it means.\") to that table in config/keys/tables.rs and the line to config/example.toml"
            )),
        }
    }
    for (path, section) in &tables {
        let unread = section.keys.iter().filter(|key| !read.contains(&(path.clone(), key.name)));
        missing.extend(unread.map(|key| {
            format!("config/keys/tables.rs has {} in [{path}], which the reader never asks for: take it out", key.name)
        }));
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn every_key_stands_in_the_example() {
    let mut shown = BTreeSet::new();
    let mut section = String::new();
    for line in EXAMPLE.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.trim_start_matches('[').split(']').next()) {
            section = name.to_owned();
            shown.insert(section.clone());
            if let (Some((top, _)), Some((_, last))) = (section.split_once('.'), section.rsplit_once('.')) {
                shown.insert(format!("{top}.{last}"));
            }
        } else if let Some((key, _)) = line.split_once(" = ") {
            let top = section.split('.').next().unwrap_or_default();
            let by_name =
                ["platform", "credential", "operator", "issuer", "inbound", "events", "secret_store", "hook", "notify"];
            let place = if by_name.contains(&top) { top } else { &section };
            shown.insert(format!("{place}.{key}"));
        }
    }
    for (path, table) in tables() {
        let top = path.split('.').next().unwrap_or_default();
        let by_name =
            ["platform", "credential", "operator", "issuer", "inbound", "events", "secret_store", "hook", "notify"];
        let place = if by_name.contains(&top) { top } else { &path };
        for key in table.keys {
            let name = format!("{place}.{}", key.name);
            // what a credential says of its own is shown once, where the defaults are
            let default =
                path.rsplit_once("credential.rotation").map(|(_, below)| format!("rotation{below}.{}", key.name));
            assert!(
                shown.contains(&name) || default.is_some_and(|name| shown.contains(&name)),
                "{name} stands nowhere in config/example.toml; add a line for it"
            );
        }
    }
}

#[test]
fn each_key_alone_is_judged_alike() {
    let judge = Judge::new();
    let mut judged = 0;
    for (path, section) in tables() {
        for key in section.keys {
            let with = companions(section, key.name);
            let good = around(&path, &with);
            judge.agree(&write(&good), true);
            for value in wrong(&key.shape) {
                let mut bad = good.clone();
                bad.get_mut(&path).unwrap().insert(key.name.to_owned(), value);
                judge.agree(&write(&bad), false);
                judged += 1;
            }
            if key.required {
                let mut bad = good.clone();
                bad.get_mut(&path).unwrap().remove(key.name);
                judge.agree(&write(&bad), false);
            }
            if let Some(default) = key.default {
                let value: Value = serde_json::from_str(default).unwrap();
                let mut same = good.clone();
                same.get_mut(&path).unwrap().insert(key.name.to_owned(), value.to_string());
                judge.agree(&write(&same), true);
            }
        }
        let mut unknown = around(&path, section.any_of.first().copied().unwrap_or_default());
        judge.agree(&write(&unknown), true);
        unknown.get_mut(&path).unwrap().insert("no_such_key".to_owned(), "1".to_owned());
        judge.agree(&write(&unknown), false);
    }
    assert!(judged > 100, "only {judged} wrong values");
    for text in ["[no_such_section]\n", "no_such_key = 1\n", "gateway = 1\n", "[platform]\nx = 1\n"] {
        judge.agree(text, false);
    }
    judge.agree("", true);
}

/// Files put together at random: what one refuses the other refuses.
#[test]
fn random_files_are_judged_alike() {
    let judge = Judge::new();
    let entropy = kh_core::SeededEntropy::new(11);
    let below = |bound: usize| usize::try_from(kh_core::Entropy::below(&entropy, bound as u64)).unwrap();
    let tables = tables();
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let mut file = around("credential.credential", &[]);
        for (path, section) in &tables {
            if below(4) != 0 || path.starts_with("credential") {
                continue;
            }
            // two of them take the same tokens, which the schema cannot tell
            let is_issuer = path.starts_with("issuer.") || path.starts_with("events.");
            if is_issuer && file.keys().any(|other| other.starts_with("issuer.")) {
                continue;
            }
            let keys: Vec<_> = section.keys.iter().filter(|_| below(2) == 0).map(|key| key.name).collect();
            let mut with: Vec<_> = keys;
            // mostly whole, because a random half rarely is
            with.extend(
                section
                    .beside
                    .iter()
                    .filter(|(key, _)| with.contains(key) && below(8) != 0)
                    .map(|(_, other)| *other)
                    .collect::<Vec<_>>(),
            );
            with.extend(section.any_of.get(below(section.any_of.len() + 1)).copied().unwrap_or_default());
            file.extend(around(path, &with));
        }
        if below(4) == 0 {
            let (path, section) = tables.iter().nth(below(tables.len())).unwrap();
            let key = &section.keys[below(section.keys.len())];
            let wrong = wrong(&key.shape);
            let value = wrong[below(wrong.len())].clone();
            file.entry(path.clone()).or_default().insert(key.name.to_owned(), value);
        }
        let text = write(&file);
        let reader = config::parse(text.as_bytes());
        assert_eq!(reader.is_ok(), judge.schema_accepts(&text), "{:?}\n{text}", reader.err());
        *(if reader.is_ok() { &mut accepted } else { &mut refused }) += 1;
    }
    assert!(accepted > 300 && refused > 300, "{accepted} accepted, {refused} refused");
}

/// Every file that people are given to copy.
#[test]
fn the_example_and_the_blocks_of_the_documents_are_valid() {
    let judge = Judge::new();
    judge.agree(EXAMPLE, true);
    judge.agree(include_str!("../../../tests/cmd/check.in/good.toml"), true);
    judge.agree(include_str!("../../../tests/cmd/check.in/bad.toml"), false);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut pages = vec![root.join("README.md")];
    for folder in ["docs/guide", "docs/runbooks", "docs/reference"] {
        pages.extend(std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    let mut judged = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        // the sandbox has a configuration of its own
        if page.file_stem().is_some_and(|name| name == "sandbox") {
            continue;
        }
        let text = std::fs::read_to_string(page).unwrap();
        for block in text.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```")) {
            judge.agree(block.0, true);
            judged += 1;
        }
    }
    assert!(judged >= 5, "only {judged} blocks");
}
