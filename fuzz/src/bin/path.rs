//! Request paths and allow rules: no panic; a canonical path has no second reading; a rule that parses can be used.
#![no_main]

use kh_core::{PlatformKind, port::AllowRule};
use kh_policy::{AllowList, CanonicalPath};

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let (path, rule) = input;
    let allow = AllowList::parse(&[AllowRule(rule.to_owned())], false, false);
    let Ok(canonical) = CanonicalPath::parse(path) else { return };
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains('\\') && path.is_ascii());
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    if let Ok(allow) = allow {
        for kind in [PlatformKind::Genesys, PlatformKind::Cxone, PlatformKind::Oauth2] {
            let _verdict = allow.decide(kind, "POST", &canonical);
        }
    }
});
