//! RFC 7662 against a scripted server: what is sent, what each answer becomes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kh_core::{
    SecretBytes, SecretReference, SecretString,
    identity::Identity,
    port::{BoxFuture, RemoteError, SecretSource, SourceError, StoredSecret, TargetError, TokenAnswer, TokenAuthority},
};
use kh_platform::{
    ClientAuth,
    inbound::{Introspection, IntrospectionAt, IntrospectionSettings},
};
use url::Url;

use super::told;
use crate::fake::{Fake, MARK, Reply, address, client, json, with};

/// A store with one document, or one that cannot give it.
#[derive(Default)]
struct Secrets {
    reads: AtomicUsize,
    failing: Option<fn() -> TargetError>,
}

impl SecretSource for Secrets {
    fn read<'a>(&'a self, wanted: &'a SecretReference) -> BoxFuture<'a, Result<StoredSecret, SourceError>> {
        if let Some(failing) = self.failing {
            let (reference, store, source) = (wanted.clone(), "vault".parse().unwrap(), failing());
            return Box::pin(async { Err(SourceError::Stored { reference, store, source }) });
        }
        let version = self.reads.fetch_add(1, Ordering::SeqCst) as u64 + 1;
        let text = format!(r#"{{"client_id":"k:h","client_secret":"{MARK}-{version}"}}"#);
        Box::pin(async move { Ok(StoredSecret { value: SecretBytes::new(text.into_bytes()), version }) })
    }

    fn version<'a>(&'a self, _: &'a SecretReference) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async { Ok(1) })
    }
}

struct Rig {
    fake: Fake,
    secrets: Arc<Secrets>,
    introspection: Introspection,
}

async fn rig(client_auth: ClientAuth, reply: Reply) -> Rig {
    rig_with(client_auth, reply, Secrets::default()).await
}

async fn rig_with(client_auth: ClientAuth, reply: Reply, secrets: Secrets) -> Rig {
    let fake = Fake::start(move |_| reply.clone()).await;
    let settings = IntrospectionSettings {
        at: IntrospectionAt::Url(Url::parse(&format!("{}/introspect", fake.url())).unwrap()),
        client_auth,
        credential: "introspection".parse().unwrap(),
        issuers: vec!["https://i.example".into(), "https://j.example".into()],
        claims: vec!["tenant".to_owned()],
    };
    let secrets = Arc::new(secrets);
    let source: Arc<dyn SecretSource> = Arc::<Secrets>::clone(&secrets);
    Rig { fake, introspection: Introspection::new(client().0, settings, source), secrets }
}

impl Rig {
    async fn ask(&self) -> Result<Option<Identity>, RemoteError> {
        let token = SecretString::copied(&format!("{MARK}-token"));
        match self.introspection.ask(&token).await? {
            TokenAnswer::Active { identity, age } => {
                assert!(age.is_zero());
                Ok(Some(*identity))
            }
            TokenAnswer::Inactive => Ok(None),
        }
    }
}

#[tokio::test]
async fn the_request_is_that_of_the_specification() {
    let rig = rig(ClientAuth::Basic, json(200, r#"{"active":false}"#)).await;
    assert_eq!(rig.ask().await, Ok(None));
    let [request] = &rig.fake.seen()[..] else { panic!("one request") };
    assert_eq!(request.line(), "POST /introspect");
    assert_eq!(request.body, format!("token={MARK}-token&token_type_hint=access_token"));
    let basic = format!("Basic {}", STANDARD.encode(format!("k%3Ah:{MARK}-1")));
    assert_eq!(request.header("authorization"), Some(basic.as_str()));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    let rig = self::rig(ClientAuth::Post, json(200, r#"{"active":false}"#)).await;
    assert_eq!(rig.ask().await, Ok(None));
    let [request] = &rig.fake.seen()[..] else { panic!("one request") };
    assert_eq!(request.header("authorization"), None);
    assert!(request.body.ends_with(&format!("&client_id=k%3Ah&client_secret={MARK}-1")), "{}", request.body);
}

#[tokio::test]
async fn an_active_token_says_whose_it_is() {
    let body = r#"{"active":true,"scope":"a b","client_id":"c","sub":"s","aud":["x","y"],"iss":"https://j.example",
        "exp":1795000100,"iat":1794999900,"jti":"7","tenant":"t","username":"not kept","token_type":"Bearer"}"#;
    let rig = rig(ClientAuth::Basic, json(200, body)).await;
    let identity = rig.ask().await.unwrap().unwrap();
    assert_eq!(
        (&**identity.issuer(), identity.client(), identity.subject()),
        ("https://j.example", Some("c"), Some("s"))
    );
    assert_eq!(identity.scopes().iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(identity.audience().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(identity.expires_at().map(kh_core::UnixMillis::as_secs), Some(1_795_000_100));
    assert!(identity.claim("tenant").is_some() && identity.claim("username").is_none());
    let rig = self::rig(ClientAuth::Basic, json(200, r#"{"active":true}"#)).await;
    let bare = rig.ask().await.unwrap().unwrap();
    assert_eq!(
        (&**bare.issuer(), bare.expires_at()),
        ("https://i.example", None),
        "of the first issuer, without an end"
    );
}

#[tokio::test]
async fn each_answer_is_a_yes_a_no_or_none_at_all() {
    let answers = [
        (json(200, r#"{"active":false,"sub":"s"}"#), "no"),
        (json(200, r#"{"active":true,"iss":"https://other.example"}"#), "no"),
        (json(200, r#"{"active":true,"exp":1000}"#), "no"),
        (json(200, r#"{"active":true,"cnf":{"x5u":"https://e.example"}}"#), "no"),
        (json(200, r#"{"active":"true"}"#), "error"),
        (json(200, r#"{"active":1}"#), "error"),
        (json(200, r#"{"sub":"s"}"#), "error"),
        (json(200, r#"{"active":false,"active":true}"#), "error"),
        (json(200, r#"[{"active":true}]"#), "error"),
        (json(200, ""), "error"),
        (json(201, r#"{"active":true}"#), "error"),
        (json(302, r#"{"active":true}"#), "error"),
        (json(401, r#"{"active":true}"#), "error"),
        (json(500, r#"{"active":true}"#), "error"),
        (with(429, "Retry-After: 3\r\n", "{}"), "error"),
        (Reply::Raw(b"HTTP/1.1 200 X\r\nContent-Type: text/html\r\n\r\n{\"active\":true}".to_vec()), "error"),
        (Reply::Raw(Vec::new()), "error"),
    ];
    for (reply, expected) in answers {
        let rig = rig(ClientAuth::Basic, reply).await;
        let word = match rig.ask().await {
            Ok(Some(_)) => "yes",
            Ok(None) => "no",
            Err(error) => {
                told(&error);
                "error"
            }
        };
        let seen = rig.fake.seen();
        assert_eq!((word, seen.len()), (expected, 1), "{seen:?}");
    }
}

/// Nobody is told to mend a credential because its store is away.
#[tokio::test]
async fn a_store_that_is_away_is_told_from_one_without_the_credential() {
    let failures: [(fn() -> TargetError, bool); 4] = [
        (|| TargetError::Unavailable("sealed".to_owned()), true),
        (|| TargetError::Throttled(None), true),
        (|| TargetError::NotFound("secret/introspection".parse().unwrap()), false),
        (|| TargetError::Denied("no policy".to_owned()), false),
    ];
    for (failing, passing) in failures {
        let secrets = Secrets { failing: Some(failing), ..Secrets::default() };
        let rig = rig_with(ClientAuth::Basic, json(200, "{}"), secrets).await;
        let error = rig.ask().await.unwrap_err();
        assert!(told(&error).contains("the credential for introspection: ") && error.passing == passing, "{error:?}");
        assert_eq!(rig.fake.seen().len(), 0);
    }
}

#[tokio::test]
async fn a_refused_credential_is_read_again_and_a_good_one_is_not() {
    let rig = rig(ClientAuth::Basic, json(200, r#"{"active":true}"#)).await;
    for _ in 0..5 {
        assert!(rig.ask().await.is_ok());
    }
    assert_eq!(rig.secrets.reads.load(Ordering::SeqCst), 1);
    let rig = self::rig(ClientAuth::Basic, json(401, "{}")).await;
    for round in 1..=3 {
        let error = rig.ask().await.unwrap_err();
        assert!(told(&error).contains("refuses keyholder's own credential"));
        assert_eq!(rig.secrets.reads.load(Ordering::SeqCst), round);
    }
}

#[tokio::test]
async fn the_endpoint_may_stand_in_the_metadata() {
    let fake = Fake::start(|seen| {
        let own = format!("http://{}", seen.header("host").unwrap());
        match seen.target.as_str() {
            "/asked" => json(200, r#"{"active":true,"iss":"https://i.example"}"#),
            _ => json(200, &format!(r#"{{"issuer":"{own}","introspection_endpoint":"{own}/asked"}}"#)),
        }
    })
    .await;
    let settings = IntrospectionSettings {
        at: IntrospectionAt::Issuer(address(&fake.url())),
        client_auth: ClientAuth::Basic,
        credential: "introspection".parse().unwrap(),
        issuers: vec!["https://i.example".into()],
        claims: Vec::new(),
    };
    let (http, clock) = client();
    let introspection = Introspection::new(http, settings, Arc::new(Secrets::default()));
    let ask = async || {
        let answer = introspection.ask(&SecretString::copied("t")).await.unwrap();
        assert!(matches!(answer, TokenAnswer::Active { .. }));
    };
    ask().await;
    ask().await;
    let metadata = "GET /.well-known/oauth-authorization-server";
    assert_eq!(fake.lines(), [metadata, "POST /asked", "POST /asked"], "it is read once for many tokens");
    clock.advance(Duration::from_hours(1));
    ask().await;
    assert_eq!(fake.lines()[3..], [metadata, "POST /asked"]);
}
