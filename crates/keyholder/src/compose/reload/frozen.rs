//! What a running keyholder cannot take from a changed configuration.
//!
//! Invariant: a key counts as frozen unless it is named here as one that a reload applies, so that a new key is refused
//! until somebody made it work.

use serde_json::Value;

use crate::config::Config;

/// What a reload applies, as paths of keys, where `*` is any name; everything below a path goes with it.
const APPLIED: &[&str] = &[
    "platform",
    "credential",
    "operator",
    "issuer",
    "inbound.*.upstream",
    "inbound.*.issuers",
    "inbound.*.audiences",
    "inbound.*.operations",
    "inbound.*.pass_authorization",
    "inbound.*.preserve_host",
    "inbound.*.trusted_proxies",
    "inbound.*.client_address",
    "inbound.*.proxy_protocol",
    "inbound.*.extra_ca",
    "inbound.*.client_cert",
    "inbound.*.client_key",
    "inbound.*.identity_header",
    "inbound.*.route",
    "inbound.*.tls.cert",
    "inbound.*.tls.key",
    "inbound.*.tls.client_ca",
    "inbound.*.tls.client_auth",
    "inbound.*.tls.client_names",
    "inbound.*.binding",
    "inbound.*.dpop_nonce",
    "inbound.*.addresses",
    "admin.tls.cert",
    "admin.tls.key",
    "secret_store",
    "network",
    "gateway.tls.cert",
    "gateway.tls.key",
    "gateway.tls.client_ca",
    "gateway.tls.client_auth",
    "gateway.tls.client_names",
    "gateway.limits.drain",
    "gateway.limits.drain_delay",
    "log.level",
];

/// The keys that differ between `before` and `after` and need a restart.
pub(super) fn changed(before: &Config, after: &Config) -> Vec<String> {
    let value = |config| serde_json::to_value(config).unwrap_or_default();
    let mut found = Vec::new();
    compare("", &value(before), &value(after), &mut found);
    found
}

fn is_applied(path: &str) -> bool {
    let fits = |applied: &str| {
        let mut parts = path.split('.');
        applied.split('.').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part))
    };
    APPLIED.iter().any(|applied| fits(applied))
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    if before == after || is_applied(path) {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return found.push(path.to_owned());
    };
    let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let of = |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
        compare(&below, &of(old), &of(new), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn parsed(text: &str) -> Config {
        config::parse(text.as_bytes()).expect("a configuration").config
    }

    #[test]
    fn what_needs_a_restart() {
        let before = parsed(config::EXAMPLE);
        assert!(changed(&before, &before).is_empty());
        for (old, new, expected) in [
            (r#"listen = ["127.0.0.1:8080"]"#, r#"listen = ["127.0.0.1:9"]"#, vec!["gateway.listen"]),
            ("# workers = 2", "workers = 2", vec!["gateway.workers"]),
            (r#"# dir = "/var"#, r#"dir = "/var"#, vec!["state.dir"]),
            ("# key_file =", "key_file =", vec!["store.key_file"]),
            (r#"format = "human""#, r#"format = "json""#, vec!["log.format"]),
            (r#"level = "info""#, r#"level = "debug""#, vec![]),
            (r#"region = "eu-central-1""#, r#"region = "eu-west-1""#, vec![]),
            (r#"environment = "production""#, r#"environment = "test""#, vec![]),
        ] {
            let text = config::EXAMPLE.replacen(old, new, 1);
            assert_ne!(text, config::EXAMPLE, "{old}");
            assert_eq!(changed(&before, &parsed(&text)), expected, "{new}");
        }
        let (plain, limited) = ("[gateway.limits]\n", "[gateway.limits]\ndrain = \"9s\"\ndrain_delay = \"3s\"\n");
        assert!(changed(&parsed(plain), &parsed(limited)).is_empty());
        let tls = "[gateway]\nlisten = [\"127.0.0.1:1\"]\n[gateway.tls]\ncert = \"CERT\"\nkey = \"b\"\n";
        let (before, after) = (parsed(tls), parsed(&tls.replace("CERT", "c")));
        assert!(changed(&before, &after).is_empty());
        let without = parsed("[gateway]\nlisten = [\"127.0.0.1:1\"]\n");
        assert_eq!(changed(&without, &before), ["gateway.tls"]);
        let api = "[issuer.a]\nkind = \"jwks\"\niss = [\"i\"]\njwks_file = \"k\"\n[inbound.b]\nlisten = [\"127.0.0.1:1\"]\n\
                   upstream = \"http://127.0.0.1:2\"\nissuers = [\"a\"]\n[[inbound.b.route]]\nmatch = [\"GET /x\"]\nany_token = true\n";
        let before = parsed(api);
        for (old, new, expected) in [
            ("127.0.0.1:1", "127.0.0.1:3", vec!["inbound.b.listen"]),
            ("127.0.0.1:2", "127.0.0.1:3", vec![]),
            ("any_token = true", "public = true", vec![]),
            ("\"k\"", "\"l\"", vec![]),
            ("inbound.b", "inbound.c", vec!["inbound.b", "inbound.c"]),
        ] {
            assert_eq!(changed(&before, &parsed(&api.replace(old, new))), expected, "{new}");
        }
    }
}
