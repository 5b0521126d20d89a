//! Which route a request is.

use super::*;

#[test]
fn the_most_specific_route_wins() {
    let rules = [
        "* /**",
        "GET /users/**",
        "GET /users/{id}",
        "GET /users/me",
        "* /users/me",
        "POST /users/{id}/roles",
        "GET /{kind}/me/roles",
        "GET /users/{id}/roles/{role}",
        "DELETE /users",
        "HEAD /users/me/photo",
        "GET /users/me/photo",
    ];
    let mut backwards = rules;
    backwards.reverse();
    for rules in [rules, backwards] {
        let table = table(&rules);
        for (call, expected) in [
            ("GET /users/me", "GET /users/me"),
            ("PUT /users/me", "* /users/me"),
            ("GET /users/1", "GET /users/{id}"),
            ("GET /users/1/x", "GET /users/**"),
            ("GET /users", "GET /users/**"),
            ("DELETE /users", "DELETE /users"),
            ("DELETE /users/1", "* /**"),
            // a word on the left counts before what follows
            ("GET /users/me/roles", "GET /users/**"),
            ("GET /queues/me/roles", "GET /{kind}/me/roles"),
            ("POST /users/me/roles", "POST /users/{id}/roles"),
            ("GET /users/me/roles/7", "GET /users/{id}/roles/{role}"),
            ("HEAD /users/me/photo", "HEAD /users/me/photo"),
            ("HEAD /users/1", "GET /users/{id}"),
            ("HEAD /users/me", "GET /users/me"),
            ("OPTIONS /", "* /**"),
        ] {
            assert_eq!(found(&table, call), expected, "{call}");
        }
    }
}

#[test]
fn what_no_route_names_is_refused() {
    let table = table(&["GET /a/{id}", "PUT /a/{id}", "GET /b/**", "x.example|PATCH /a/{id}"]);
    for (call, expected) in [
        ("GET /a", "none"),
        ("GET /a/", "none"),
        ("GET /a/1/", "none"),
        ("GET /c", "none"),
        ("POST /a/1", "405 GET,PUT"),
        ("x.example|POST /a/1", "405 GET,PATCH,PUT"),
        ("x.example|GET /a/1", "GET /a/{id}"),
        ("PATCH /a/1", "405 GET,PUT"),
        ("DELETE /b/1/2", "405 GET"),
        ("DELETE /b", "405 GET"),
        ("GETS /b", "405 GET"),
        ("HEAD /b", "GET /b/**"),
    ] {
        assert_eq!(found(&table, call), expected, "{call}");
    }
    assert_eq!(found(&super::table(&[]), "GET /"), "none");
}

#[test]
fn a_named_host_comes_before_every_host() {
    let table = table(&["GET /health", "admin.example|* /**", "[2001:db8::1]|GET /six"]);
    for (host, expected) in [
        ("", "GET /health"),
        ("api.example", "GET /health"),
        ("admin.example", "admin.example * /**"),
        ("ADMIN.example", "admin.example * /**"),
        ("admin.example.", "admin.example * /**"),
        ("admin.example:8443", "admin.example * /**"),
        ("admin.example.:8443", "admin.example * /**"),
        ("xadmin.example", "GET /health"),
        ("admin.example.org", "GET /health"),
    ] {
        assert_eq!(found(&table, &format!("{host}|GET /health")), expected, "{host}");
    }
    for host in ["[2001:db8::1]:443", "[2001:DB8:0::1]", "[2001:db8::1]"] {
        assert_eq!(found(&table, &format!("{host}|GET /six")), "[2001:db8::1] GET /six", "{host}");
    }
    // what one server takes for the named host and another for some other one
    for host in [
        "x@admin.example",
        "%61dmin.example",
        "admin.example..",
        "admin..example",
        ".admin.example",
        "admin.example:80:80",
        "admin.example:x",
        "admin.example/",
        "admin.example,other.example",
        "admin.example ",
        "admin.example\t",
        "ädmin.example",
        "[2001:db8::1",
        "[2001:db8::1]x",
        "[admin.example]",
        ".",
        ":80",
    ] {
        assert_eq!(found(&table, &format!("{host}|GET /health")), "none", "{host:?}");
        // no route has a host: then it decides nothing
        assert_eq!(found(&super::table(&["GET /health"]), &format!("{host}|GET /health")), "GET /health");
    }
    assert_eq!(found(&table, "[2001:db8::1]|GET /health"), "GET /health");
}

#[test]
fn another_spelling_is_no_way_around_a_stricter_route() {
    let table = table(&["* /**", "* /{any}", "GET /admin", "GET /admin/keys", "GET /files/report.pdf", "GET /slash/"]);
    for call in [
        "GET /ADMIN",
        "GET /Admin/keys",
        "GET /admin/KEYS",
        "GET /admin/",
        "GET /admin/keys/",
        "GET /admin;a=b",
        "GET /admin%3Ba=b",
        "GET /admin.json",
        "GET /admin.json;a=b",
        "GET /admin;a=b/keys",
        "GET /admin%20",
        "GET /%20admin/keys",
        "get /admin",
        "Head /admin",
        "GET /files/REPORT.pdf",
        "GET /files/report.pdf;v=1",
        "GET /files/report.pdf.json",
        "GET /slash",
    ] {
        assert_eq!(found(&table, call), "none", "{call}");
    }
    for (call, expected) in [
        ("GET /admin", "GET /admin"),
        ("HEAD /admin", "GET /admin"),
        ("POST /admin", "* /{any}"),
        ("GET /administrator", "* /{any}"),
        ("GET /xadmin", "* /{any}"),
        ("GET /files/report.txt", "* /**"),
        ("GET /files/report", "* /**"),
        ("GET /admin/keysx", "* /**"),
        ("GET /slash/", "GET /slash/"),
        ("get /other", "* /{any}"),
    ] {
        assert_eq!(found(&table, call), expected, "{call}");
    }
}

#[test]
fn escapes_are_compared_by_what_they_mean() {
    let table = table(&["GET /a@b/{id}", "GET /%C3%A9/x", "GET /100%25", "GET /**"]);
    for (call, expected) in [
        ("GET /a%40b/1", "GET /a@b/{id}"),
        ("GET /a@b/%20", "GET /a@b/{id}"),
        ("GET /%c3%a9/x", "GET /%C3%A9/x"),
        ("GET /100%25", "GET /100%25"),
        ("GET /100", "GET /**"),
    ] {
        assert_eq!(found(&table, call), expected, "{call}");
    }
}
