//! The keys of delivery hooks and notifications.

use super::{Key, Section, Shape, words};

const TIMEOUT: Key =
    Key::new("timeout", Shape::Duration, "How long one attempt may take: at most half of call_max less 6s.")
        .default(r#""54s""#);
const REQUEST_TIMEOUT: Key =
    Key::new("timeout", Shape::Duration, "How long one request may take: at most half of call_max less 6s.")
        .default(r#""15s""#);
const EXTRA_CA: Key = Key::new("extra_ca", Shape::Path, "PEM file of a private CA to trust beside the system's.");
const ONLY_CA: Key = Key::new("extra_ca", Shape::Path, "PEM file of a private CA to trust in place of the system's.");
const URGENCY: Key =
    Key::new("urgency", Shape::Choice(&["info", "warning", "critical"]), "The least urgent notice that is sent.")
        .default(r#""info""#);

/// `[hook.NAME]`, by kind.
pub(super) const HOOKS: &[(&str, &Section)] = &[
    ("webhook", &HOOK_WEBHOOK),
    ("command", &COMMAND),
    ("kubernetes", &KUBERNETES),
    ("github", &GITHUB),
    ("lambda", &LAMBDA),
];

/// `[notify.NAME]`, by kind.
pub(super) const NOTIFIERS: &[(&str, &Section)] =
    &[("webhook", &NOTIFY_WEBHOOK), ("slack", &SLACK), ("pagerduty", &PAGERDUTY), ("smtp", &SMTP)];

const HOOK_WEBHOOK: Section = Section::new(
    "Posts a signed message that names the new secret and does not hold it.",
    &[
        Key::new("kind", Shape::Choice(&["webhook"]), "What the hook does.").required(),
        Key::new("url", Shape::Url, "Where.").required(),
        Key::new("key_file", Shape::Path, "File with the key of the signature, mode 0600.").required(),
        REQUEST_TIMEOUT,
        EXTRA_CA,
    ],
);

const COMMAND: Section = Section::new(
    "Starts a program, which gets no secret in its arguments or environment.",
    &[
        Key::new("kind", Shape::Choice(&["command"]), "What the hook does.").required(),
        Key::new("command", Shape::Texts, "The program and its arguments.").required(),
        TIMEOUT,
    ],
);

const KUBERNETES: Section = Section::new(
    "Rolls a deployment out anew, by the API and as `kubectl rollout restart` does it.",
    &[
        Key::new("kind", Shape::Choice(&["kubernetes"]), "What the hook does.").required(),
        Key::new("namespace", Shape::Word(&words::KUBERNETES), "The deployment's namespace.").required(),
        Key::new("deployment", Shape::Word(&words::KUBERNETES), "The deployment.").required(),
        Key::new("api_url", Shape::Url, "The API server; without it the one of the pod that keyholder runs in."),
        Key::new("token_file", Shape::Path, "File with a service account's token; without it the pod's own."),
        TIMEOUT,
        ONLY_CA,
    ],
);

const GITHUB: Section = Section::new(
    "Writes a secret of GitHub Actions, sealed for the repository.",
    &[
        Key::new("kind", Shape::Choice(&["github"]), "What the hook does.").required(),
        Key::new("repository", Shape::Word(&words::REPOSITORY), "The repository, OWNER/NAME.").required(),
        Key::new("name", Shape::Word(&words::ACTIONS_SECRET), "The name of the secret.").required(),
        Key::new(
            "member",
            Shape::Word(&words::MEMBER),
            "The member of the document that is written; without it the whole document.",
        ),
        Key::new("token_file", Shape::Path, "File with a token that may write it, mode 0600.").required(),
        Key::new("api_url", Shape::Url, "Another address of the API, such as an enterprise server's."),
        REQUEST_TIMEOUT,
        EXTRA_CA,
    ],
);

const LAMBDA: Section = Section::new(
    "Makes an AWS Lambda function start anew, by a change of its configuration.",
    &[
        Key::new("kind", Shape::Choice(&["lambda"]), "What the hook does.").required(),
        Key::new("function", Shape::Word(&words::ONE_WORD), "The function's name, not its ARN.").required(),
        Key::new("region", Shape::Word(&words::ONE_WORD), "Its region, if the environment does not say."),
        Key::new("profile", Shape::Word(&words::ONE_WORD), "A profile of the shared configuration files."),
        Key::new("endpoint", Shape::Url, "Another address of the service."),
        TIMEOUT,
        EXTRA_CA,
    ],
);

const NOTIFY_WEBHOOK: Section = Section::new(
    "Posts a signed message.",
    &[
        Key::new("kind", Shape::Choice(&["webhook"]), "How people are told.").required(),
        Key::new("url", Shape::Url, "Where.").required(),
        Key::new("key_file", Shape::Path, "File with the key of the signature, mode 0600.").required(),
        URGENCY,
        EXTRA_CA,
    ],
);

const SLACK: Section = Section::new(
    "An incoming webhook of Slack.",
    &[
        Key::new("kind", Shape::Choice(&["slack"]), "How people are told.").required(),
        Key::new("url_file", Shape::Path, "File with the webhook's address, mode 0600: whoever knows it can post.")
            .required(),
        URGENCY,
        EXTRA_CA,
    ],
);

const PAGERDUTY: Section = Section::new(
    "The Events API of PagerDuty.",
    &[
        Key::new("kind", Shape::Choice(&["pagerduty"]), "How people are told.").required(),
        Key::new("key_file", Shape::Path, "File with the integration's routing key, mode 0600.").required(),
        Key::new("url", Shape::Url, "Another address of the API, such as https://events.eu.pagerduty.com."),
        URGENCY,
        EXTRA_CA,
    ],
);

const SMTP: Section = Section::new(
    "E-mail.",
    &[
        Key::new("kind", Shape::Choice(&["smtp"]), "How people are told.").required(),
        Key::new("server", Shape::Word(&words::HOST_AND_PORT), "The mail server with its port.").required(),
        Key::new("from", Shape::Word(&words::MAILBOX), "The sender.").required(),
        Key::new("to", Shape::Words(&words::MAILBOX), "The recipients.").required(),
        Key::new(
            "tls",
            Shape::Choice(&["starttls", "tls", "none"]),
            "How the connection is encrypted; none is for a server on this machine.",
        )
        .default(r#""starttls""#),
        Key::new("user", Shape::Text, "The account."),
        Key::new("password_file", Shape::Path, "File with its password, mode 0600."),
        URGENCY,
        ONLY_CA,
    ],
)
.beside(&[("user", "password_file"), ("password_file", "user")]);
