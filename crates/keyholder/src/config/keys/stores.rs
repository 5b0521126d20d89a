//! The keys of secret stores outside keyholder.

use super::{Key, Section, Shape, words};

const FALLBACK: Key = Key::new(
    "fallback",
    Shape::Names,
    "Stores with the same documents, such as another region's, that are read when this one does not answer.",
)
.default("[]");
const STALE_MAX: Key = Key::new(
    "stale_max",
    Shape::Duration,
    "How long a document that was read may be used while no store answers; never longer.",
)
.default(r#""15m""#);
const EXTRA_CA: Key =
    Key::new("extra_ca", Shape::Path, "PEM file of a private CA to trust for this store beside the system's.");

pub(super) const VAULT: Section = Section::new(
    "HashiCorp Vault or OpenBao, KV version 2.",
    &[
        Key::new("kind", Shape::Choice(&["vault"]), "What the store is.").required(),
        Key::new(
            "address",
            Shape::Servers,
            "The server, or a list of the cluster's nodes: the next is asked when one is sealed, a standby or out of reach.",
        )
        .required(),
        Key::new("namespace", Shape::Word(&words::VAULT_PATH), "Namespace of Vault Enterprise."),
        Key::new("mount", Shape::Word(&words::VAULT_PATH), "Where the KV engine is mounted.").default(r#""secret""#),
        Key::new("role_id_file", Shape::Path, "AppRole: file with the role id."),
        Key::new("secret_id_file", Shape::Path, "AppRole: file with the secret id, mode 0600."),
        Key::new(
            "secret_id_wrapped",
            Shape::Flag,
            "AppRole: whether secret_id_file holds a response-wrapping token that is unwrapped once.",
        )
        .default("false"),
        Key::new("kubernetes_role", Shape::Word(&words::ONE_WORD), "Kubernetes: Vault's role for the pod's account."),
        Key::new("jwt_role", Shape::Word(&words::ONE_WORD), "JWT: Vault's role."),
        Key::new("jwt_file", Shape::Path, "Kubernetes and JWT: file with the token, read at every login."),
        Key::new("token_file", Shape::Path, "File with a token that something else renews, such as Vault's agent."),
        Key::new(
            "auth_mount",
            Shape::Word(&words::VAULT_PATH),
            "Where the login method is mounted, if not at approle, kubernetes or jwt.",
        ),
        FALLBACK,
        STALE_MAX,
        EXTRA_CA,
    ],
)
.at_most_one(&["role_id_file", "kubernetes_role", "jwt_role", "token_file"])
.any_of(&[
    &["role_id_file", "secret_id_file"],
    &["kubernetes_role", "jwt_file"],
    &["jwt_role", "jwt_file"],
    &["token_file"],
])
.beside(&[
    ("role_id_file", "secret_id_file"),
    ("secret_id_file", "role_id_file"),
    ("secret_id_wrapped", "secret_id_file"),
    ("kubernetes_role", "jwt_file"),
    ("jwt_role", "jwt_file"),
]);

pub(super) const AWS: Section = Section::new(
    "AWS Secrets Manager. Who keyholder is comes from the usual chain: environment, profile, SSO, IRSA, ECS, IMDSv2.",
    &[
        Key::new("kind", Shape::Choice(&["aws"]), "What the store is.").required(),
        Key::new("region", Shape::Word(&words::ONE_WORD), "The region, such as eu-central-1.").required(),
        Key::new("profile", Shape::Word(&words::ONE_WORD), "A profile of the shared configuration files."),
        Key::new("role_arn", Shape::Word(&words::ARN), "A role to assume, for example of another account."),
        Key::new("external_id", Shape::Word(&words::ONE_WORD), "What the role's account demands beside it."),
        Key::new("endpoint", Shape::Url, "Another address of the service, such as a VPC endpoint."),
        FALLBACK,
        STALE_MAX,
        EXTRA_CA,
    ],
)
.beside(&[("external_id", "role_arn")]);

pub(super) const AZURE: Section = Section::new(
    "Azure Key Vault. Without more, the managed identity of the machine logs in.",
    &[
        Key::new("kind", Shape::Choice(&["azure"]), "What the store is.").required(),
        Key::new("vault_url", Shape::Url, "The vault, such as https://acme.vault.azure.net.").required(),
        Key::new(
            "federated_token_file",
            Shape::Path,
            "File with a token of Kubernetes or a CI system that logs in (workload identity), read at every login.",
        ),
        Key::new("tenant_id", Shape::Word(&words::ONE_WORD), "The directory of the application."),
        Key::new("client_id", Shape::Word(&words::ONE_WORD), "The application, or a user-assigned managed identity."),
        Key::new("client_secret_file", Shape::Path, "File with the application's secret, mode 0600."),
        FALLBACK,
        STALE_MAX,
        EXTRA_CA,
    ],
)
.at_most_one(&["federated_token_file", "client_secret_file"])
.beside(&[
    ("client_secret_file", "tenant_id"),
    ("client_secret_file", "client_id"),
    ("federated_token_file", "tenant_id"),
    ("federated_token_file", "client_id"),
]);

pub(super) const GOOGLE: Section = Section::new(
    "Google Secret Manager. Without more, Application Default Credentials log in.",
    &[
        Key::new("kind", Shape::Choice(&["google"]), "What the store is.").required(),
        Key::new("project", Shape::Word(&words::ONE_WORD), "The project.").required(),
        Key::new("alias", Shape::Word(&words::ONE_WORD), "The version alias that consumers read; never latest.")
            .default(r#""current""#),
        Key::new(
            "credentials_file",
            Shape::Path,
            "File with a service account's key or a workload identity federation.",
        ),
        Key::new("endpoint", Shape::Url, "Another address of the service."),
        FALLBACK,
        STALE_MAX,
    ],
);
