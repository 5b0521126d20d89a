//! The tables themselves: well formed, without doubles, and every row reachable.

use super::*;

#[test]
fn every_row_guards_its_own_path_and_has_a_reason() {
    for kind in [PlatformKind::Genesys, PlatformKind::Cxone, PlatformKind::Oauth2] {
        for (index, row) in table(kind).iter().enumerate() {
            assert_eq!(row.path, row.path.to_lowercase());
            assert!(!row.reason.is_empty());
            let path = row.path.replace("{}", "x").replace("**", "/some/base");
            let canonical = CanonicalPath::parse(&path).unwrap();
            assert_eq!(guarded(kind, row.method, &canonical), Some(row), "row {index}: an earlier row hides it");
            assert_eq!(guarded(kind, "OPTIONS", &canonical), None);
        }
    }
}

#[test]
fn neighbours_are_open() {
    for (kind, call) in [
        (PlatformKind::Genesys, "POST /api/v2/oauth/clients/x"),
        (PlatformKind::Genesys, "POST /api/v2/oauth/client"),
        (PlatformKind::Genesys, "POST /api/v2/users"),
        (PlatformKind::Genesys, "GET /api/v2/integrations/credentials/x"),
        (PlatformKind::Genesys, "GET /api/v2/recording/keyconfigurations/x/y"),
        (PlatformKind::Genesys, "POST /"),
        (PlatformKind::Cxone, "GET /access-key-management/v1/access-keys/x"),
        (PlatformKind::Cxone, "POST /incontactapi/services/v34.0/contacts"),
    ] {
        let (method, path) = call.split_once(' ').unwrap();
        assert_eq!(guarded(kind, method, &CanonicalPath::parse(path).unwrap()), None, "{call}");
    }
}

#[test]
fn a_suffix_row_fits_under_any_base() {
    for path in ["/applications", "/a/applications", "/a/b/Applications/"] {
        let path = CanonicalPath::parse(path).unwrap();
        assert!(guarded(PlatformKind::Cxone, "POST", &path).is_some());
    }
}

#[test]
fn disguises_of_a_guarded_path_are_guarded() {
    for kind in [PlatformKind::Genesys, PlatformKind::Cxone] {
        for row in table(kind) {
            let path = row.path.replace("{}", "x").replace("**", "/some/base");
            for disguise in [
                path.to_uppercase(),
                format!("{path}.json"),
                format!("{path}%20"),
                format!("{path}.%20/"),
                format!("{path}/"),
                format!("{path};a=b"),
                path.replace("/oauth/", "/OAuth;x/"),
            ] {
                let canonical = CanonicalPath::parse(&disguise).unwrap();
                assert!(guarded(kind, &row.method.to_lowercase(), &canonical).is_some(), "{disguise}");
            }
        }
    }
}
