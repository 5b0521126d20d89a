//! The fault plan: which requests go wrong, and how. Invariant: rules are tried in order; delays, skews and slow bodies
//! add up, the first other effect that fires ends the search; equal seeds and equal traffic give equal faults.

mod pattern;
mod plan;

pub(crate) use plan::{Faults, Injection, Subject, Verdict};

use serde::{Deserialize, Serialize};

/// One rule of the fault plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// A name for reports; free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which requests it is about; empty means all of them.
    #[serde(default, rename = "match")]
    pub matches: FaultMatch,
    /// What happens to them.
    pub effect: FaultEffect,
}

/// Which requests a rule is about. All given conditions must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultMatch {
    /// `genesys` or `cxone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// HTTP method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path pattern: `*` is one segment, `**` any number of them. Prefixes of gateways are already cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Endpoint template, such as `/api/v2/users/{userId}` or `/oauth/token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Id of the calling client (OAuth client, CXone application or access key).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Fire only at the n-th matching request, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Fire only at the first n matching requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Fire with this probability, 0.0 to 1.0, drawn from the sandbox's seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Fire only before this time of the sandbox's clock, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultEffect {
    /// Close the connection without an answer; nothing was applied.
    DropBefore,
    /// Apply the request, then close the connection without an answer.
    DropAfter,
    /// Wait before the request is looked at.
    Delay {
        /// Milliseconds of real time.
        ms: u64,
    },
    /// Answer this status without applying the request.
    Status {
        /// HTTP status, 400..=599.
        status: u16,
        /// Value of `Retry-After`: seconds or an HTTP date, sent as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
        /// Body; absent means the platform's error shape.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
    /// Apply the request and answer a body that is not JSON, with status and Content-Type unchanged.
    BadJson,
    /// Apply the request, announce the whole body, send half of it and close.
    TruncatedBody,
    /// Apply the request and answer 200 with an empty body.
    EmptyBody,
    /// Apply the request and send the body in small pieces.
    SlowBody {
        /// Bytes per piece.
        bytes: usize,
        /// Milliseconds between pieces.
        ms: u64,
    },
    /// Shift the `Date` header of the answer.
    ClockSkew {
        /// Seconds; negative is the past.
        seconds: i64,
    },
    /// Answer 401 with this platform code (`bad.credentials`, `ip.not.authorized`, ...) without applying.
    Unauthorized {
        /// The code.
        code: String,
    },
}
