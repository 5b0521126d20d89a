//! The catalogue of spans: every name and attribute that traces may have. `docs/reference/spans.md` is made from it, and
//! the tests compare it with what a collector receives.

/// One kind of span.
#[derive(Clone, Copy, Debug)]
pub struct SpanKind {
    /// Its name, with `{...}` for what differs.
    pub name: &'static str,
    /// `SERVER` or `CLIENT`.
    pub kind: &'static str,
    /// What it covers.
    pub covers: &'static str,
    /// Its attributes and what they say.
    pub attributes: &'static [(&'static str, &'static str)],
}

/// The request of an application.
pub(crate) const SERVER: usize = 0;
/// An attempt to reach the platform.
pub(crate) const CLIENT: usize = 1;

/// Every kind.
pub const SPANS: &[SpanKind] = &[
    SpanKind {
        name: "{method} {route}",
        kind: "SERVER",
        covers: "a request to the gateway, from its head to the last byte of its answer; an error when keyholder failed \
                 (status 5xx) or the answer broke off",
        attributes: &[
            ("http.request.method", "the method, or `_OTHER` for one that no RFC names"),
            ("http.route", "the path with words and versions of the published API paths only; anything else is `{id}`"),
            ("url.scheme", "`http` or `https`, as the application spoke"),
            ("network.protocol.version", "`1.0`, `1.1` or `2`"),
            ("client.address", "the application's IP address"),
            ("user_agent.original", "the application's user agent, cleaned and cut at 256 characters"),
            ("http.response.status_code", "the status that the application got"),
            ("error.type", "keyholder's error code, the status, or how the answer broke off"),
            ("http.request.body.size", "bytes of the request's body"),
            ("http.response.body.size", "bytes of the answer's body"),
            ("keyholder.outcome", "`proxied`, `own`, `refused` or `failed`"),
            ("keyholder.client.id", "the client"),
            ("keyholder.client.name", "its name"),
            ("keyholder.credential.name", "the credential that the call used"),
            ("keyholder.correlation_id", "the platform's correlation id, or keyholder's own for an error"),
        ],
    },
    SpanKind {
        name: "{method}",
        kind: "CLIENT",
        covers: "one attempt to reach the platform, from looking for a connection to the head of the answer",
        attributes: &[
            ("http.request.method", "the method, or `_OTHER`"),
            ("server.address", "the platform's host"),
            ("server.port", "its port"),
            ("url.scheme", "`http` or `https`"),
            ("http.response.status_code", "the platform's status"),
            ("error.type", "`connect`, `tls`, `timeout`, `protocol`, `cancelled`, or the status from 400 on"),
            ("http.request.resend_count", "which further attempt it is, from 1; absent on the first"),
        ],
    },
];

/// Every attribute of a kind by name.
#[cfg(test)]
pub(crate) fn has_attribute(kind: usize, name: &str) -> bool {
    SPANS.get(kind).is_some_and(|kind| kind.attributes.iter().any(|(known, _)| *known == name))
}
