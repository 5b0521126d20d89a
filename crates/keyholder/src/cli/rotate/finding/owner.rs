//! Whose secret a finding is about, and whether it still works.
//!
//! Invariants: a finding is compared with what the stores really hold; when a store could not be asked, "nobody's" is not
//! the answer; whether an earlier secret is dead is asked of the platform wherever it can be.

use kh_core::{
    Code, CredentialName, Fingerprint, Fingerprinter, PlatformKind, SecretReference,
    credential::CredentialDocument,
    port::{FetchError, StoreError, TargetError},
};
use kh_rotation::{Escrow, Run, State, status::command};
use kh_rotator::{begin::readable, escrow::SealedFor};

use super::{
    super::world::{self, World},
    Finding,
};
use crate::{
    cli::Loaded,
    compose::{embedded_target, target_of},
    output::{Exit, Failure},
};

/// Runs of one credential that are looked through: as far back as a new run knows them.
const RUNS_MAX: usize = 200;

/// Which part of a document leaked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    ClientSecret,
    AccessKeySecret,
    RefreshToken,
    /// Id and secret together.
    Login,
}

impl Part {
    fn of(document: &CredentialDocument, finding: &Finding, by: &Fingerprinter) -> Option<Self> {
        let whole = document.fingerprint(by);
        if finding.fingerprint == whole || finding.login_fingerprint.as_ref() == Some(&whole) {
            return Some(Self::Login);
        }
        let parts = [
            (Self::ClientSecret, &document.client_secret),
            (Self::AccessKeySecret, &document.access_key_secret),
            (Self::RefreshToken, &document.refresh_token),
        ];
        let is = |secret: &kh_core::SecretString| by.fingerprint(secret.expose().as_bytes()) == finding.fingerprint;
        parts.into_iter().find(|(_, secret)| secret.as_ref().is_some_and(is)).map(|(part, _)| part)
    }

    /// Why a rotation does not take it away; none: it does.
    fn stays(self, kind: PlatformKind) -> Option<&'static str> {
        match (self, kind) {
            (Self::RefreshToken, _) => Some("a refresh token, which ends at the platform and not with a rotation"),
            (Self::ClientSecret, PlatformKind::Cxone) => {
                Some("the secret of a registered application, which the vendor alone replaces")
            }
            (Self::ClientSecret | Self::AccessKeySecret | Self::Login, _) => None,
        }
    }
}

/// Where a leaked secret was recognized.
enum Found {
    /// Consumers read it now.
    Live,
    /// The old one of a rotation that has not ended.
    Old,
    /// The new one of a rotation that has not made it live.
    New(Box<Run>),
    /// One that was live before; with its document where it is still there to be tried.
    Before { document: Option<CredentialDocument>, run: Option<Box<Run>> },
}

/// One credential that a finding concerns.
struct Match {
    credential: CredentialName,
    part: Part,
    found: Found,
}

/// What an urgent rotation may begin with.
pub(in crate::cli::rotate) enum Verdict {
    /// The secret of this credential leaked, and may still work.
    Rotate(CredentialName),
    /// The platform refuses it already.
    Dead { credential: CredentialName, why: String },
}

/// Whose secret the finding is about. `named` is the credential that a person named, if one did.
pub(in crate::cli::rotate) async fn judge(
    finding: &Finding,
    named: Option<&CredentialName>,
    world: &World,
    loaded: &Loaded,
) -> Result<Verdict, Failure> {
    let (mut matches, mut unreached) = (Vec::new(), Vec::new());
    for name in loaded.config.credentials.keys() {
        let found = search(finding, name, world, loaded, &mut unreached).await?;
        matches.extend(found.map(|(part, found)| Match { credential: name.clone(), part, found }));
    }
    let chosen = choose(finding, named, matches, &unreached)?;
    let Match { credential, part, found } = chosen;
    let platform = loaded.config.credentials.get(&credential).map(|of| &of.platform);
    let kind = platform.and_then(|name| loaded.config.platforms.get(name)).map(crate::config::PlatformConfig::kind);
    if let Some(what) = kind.and_then(|kind| part.stays(kind)) {
        return Err(Failure::new(Code::ROTATION_UNSUPPORTED, format!("what leaked of {credential} is {what}"))
            .exiting(Exit::Operator));
    }
    match found {
        Found::Live | Found::Old => Ok(Verdict::Rotate(credential)),
        Found::New(run) => Err(Failure::new(
            Code::ROTATION_UNFINISHED,
            format!("what leaked is the new secret of the run {}, which is not live yet", run.began().run),
        )
        .hint(command::abort(&run))
        .hint("it deletes that secret; the one that is live did not leak")),
        Found::Before { document, run } => before(&credential, document, run, world).await,
    }
}

/// The one match, or why there is none.
fn choose(
    finding: &Finding,
    named: Option<&CredentialName>,
    mut matches: Vec<Match>,
    unreached: &[String],
) -> Result<Match, Failure> {
    let list = |all: &[Match]| all.iter().map(|one| one.credential.to_string()).collect::<Vec<_>>().join(", ");
    let told = list(&matches);
    if let Some(name) = named {
        matches.retain(|one| one.credential == *name);
    }
    if matches.len() > 1 {
        return Err(Failure::usage(format!("the finding {} is about the secret of {told}", finding.id))
            .hint("name the one to rotate: keyholder rotate now CREDENTIAL --from-finding ..."));
    }
    if let Some(one) = matches.pop() {
        return Ok(one);
    }
    if let (Some(name), false) = (named, told.is_empty()) {
        return Err(Failure::new(Code::USAGE, format!("the finding {} is about {told}, not {name}", finding.id)));
    }
    let failure = match named {
        Some(name) => format!("the finding {} is not about a secret of {name}", finding.id),
        None => format!("the finding {} is about no secret of any credential here", finding.id),
    };
    if unreached.is_empty() {
        return Err(Failure::new(Code::NOT_FOUND, failure)
            .hint("every credential was compared, with the stores' live documents and what is known of earlier ones")
            .hint("nothing was changed; revoke it where it belongs"));
    }
    let failure = Failure::new(Code::NOT_FOUND, format!("{failure} that could be read")).exiting(Exit::Unfinished);
    Err(unreached.iter().fold(failure, |failure, why| failure.hint(format!("not compared: {why}"))))
}

/// Looks for the finding's secret in everything that is known of one credential.
async fn search(
    finding: &Finding,
    name: &CredentialName,
    world: &World,
    loaded: &Loaded,
    unreached: &mut Vec<String>,
) -> Result<Option<(Part, Found)>, Failure> {
    let Some(credential) = loaded.config.credentials.get(name) else { return Ok(None) };
    let by = &*world.rotation.services.fingerprinter;
    let embedded = embedded_target(&world.base);
    let places: Vec<_> = std::iter::once(&credential.secret)
        .chain(credential.rotation.iter().flat_map(|rotation| &rotation.targets))
        .collect();
    for place in &places {
        let Some(target) = target_of(place, &world.targets, &embedded) else { continue };
        match target.live(&place.path()).await {
            Ok(live) => {
                let document = CredentialDocument::parse(&live.value).ok();
                if let Some(part) = document.and_then(|document| Part::of(&document, finding, by)) {
                    return Ok(Some((part, Found::Live)));
                }
            }
            Err(TargetError::NotFound(_)) => {}
            Err(error) => unreached.push(format!("{place}: {error}")),
        }
    }
    let runs = world.rotation.services.journal.runs(Some(name), RUNS_MAX).await;
    let runs: Vec<Run> = runs.map_err(|error| world::journal(&error))?.iter().filter_map(readable).collect();
    if let Some(run) = runs.iter().find(|run| !run.state().ended()) {
        for which in [Escrow::Old, Escrow::New] {
            let document = escrowed(world, run, which).await?;
            if let Some(part) = document.and_then(|document| Part::of(&document, finding, by)) {
                let new = matches!(which, Escrow::New);
                return Ok(Some((part, if new { Found::New(Box::new(run.clone())) } else { Found::Old })));
            }
        }
    }
    earlier(finding, &places, runs, world, unreached).await
}

/// The versions before that the embedded store keeps, and what the journal says of them.
async fn earlier(
    finding: &Finding,
    places: &[&SecretReference],
    runs: Vec<Run>,
    world: &World,
    unreached: &mut Vec<String>,
) -> Result<Option<(Part, Found)>, Failure> {
    let by = &*world.rotation.services.fingerprinter;
    let replaced_by = |login: &Fingerprint| {
        let of = |run: &&Run| run.baseline().is_some_and(|base| base.old == *login);
        runs.iter().find(of).cloned().map(Box::new)
    };
    for name in places.iter().filter_map(|place| place.embedded()) {
        let kept = match world.base.store.earlier(name).await {
            Ok(kept) => kept,
            Err(StoreError::NotFound(_)) => continue,
            Err(error) => {
                unreached.push(format!("store:{name}: {error}"));
                continue;
            }
        };
        for stored in kept.iter().rev() {
            let Ok(document) = CredentialDocument::parse(&stored.value) else { continue };
            let Some(part) = Part::of(&document, finding, by) else { continue };
            let run = replaced_by(&document.fingerprint(by));
            return Ok(Some((part, Found::Before { document: Some(document), run })));
        }
    }
    let logins = [Some(&finding.fingerprint), finding.login_fingerprint.as_ref()];
    let run = logins.into_iter().flatten().find_map(replaced_by);
    Ok(run.map(|run| (Part::Login, Found::Before { document: None, run: Some(run) })))
}

/// A document of the run's escrow, if it is still there.
async fn escrowed(world: &World, run: &Run, which: Escrow) -> Result<Option<CredentialDocument>, Failure> {
    let services = &world.rotation.services;
    let began = run.began();
    let sealed = services.journal.escrow(began.run, which.as_str()).await.map_err(|error| world::journal(&error))?;
    let Some(sealed) = sealed else { return Ok(None) };
    let place =
        SealedFor { credential: &began.credential, generation: began.generation, run: began.run, name: which.as_str() };
    let opened = services.escrow.open(place, &sealed).map_err(|error| world::halt(&error.into()))?;
    Ok(CredentialDocument::parse(&opened).ok())
}

/// A secret that was replaced: dead as far as the platform says, and otherwise as far as the journal does.
async fn before(
    credential: &CredentialName,
    document: Option<CredentialDocument>,
    run: Option<Box<Run>>,
    world: &World,
) -> Result<Verdict, Failure> {
    let replaced = run.as_ref().map(|run| format!("replaced by the run {}", run.began().run));
    let replaced = replaced.unwrap_or_else(|| "replaced by hand".to_owned());
    let subject = world.subject(credential).ok();
    let (Some(document), Some(subject)) = (document, subject) else {
        if run.is_some_and(|run| matches!(run.state(), State::Completed | State::Killed)) {
            let why = format!("it was {replaced}, which deleted it");
            return Ok(Verdict::Dead { credential: credential.clone(), why });
        }
        let told =
            format!("an earlier secret of {credential} leaked ({replaced}), and whether it still works is unknown");
        return Err(Failure::new(Code::ROTATION_NEEDS_OPERATOR, told)
            .hint("look for it at the platform, and delete it there")
            .hint("`keyholder secret report` lists what no credential uses"));
    };
    match subject.endpoint.fetch(&document, None).await {
        Err(FetchError::Rejected { platform_code, .. }) => {
            let why = format!("it was {replaced}, and the platform refuses it ({platform_code})");
            Ok(Verdict::Dead { credential: credential.clone(), why })
        }
        Ok(_) => {
            let id = subject.management.id_of(&document).map(|id| format!(" {id}")).unwrap_or_default();
            let told = format!("an earlier secret of {credential} leaked ({replaced}), and it still logs in");
            Err(Failure::new(Code::ROTATION_NEEDS_OPERATOR, told)
                .hint(format!("delete{id} at the platform: it is not the one that applications use"))
                .hint("`keyholder secret report` lists what no credential uses"))
        }
        Err(error) => {
            let told = format!("an earlier secret of {credential} leaked ({replaced}); whether it works was not told");
            Err(Failure::new(error.code(), told).caused_by(&error).exiting(Exit::Unfinished))
        }
    }
}

#[cfg(test)]
mod tests {
    use kh_core::SecretBytes;

    use super::*;

    fn document(text: &str) -> CredentialDocument {
        CredentialDocument::parse(&SecretBytes::new(text.as_bytes().to_vec())).unwrap()
    }

    fn finding(fingerprint: Fingerprint) -> Finding {
        Finding { id: "1".to_owned(), fingerprint, login_fingerprint: None, rule: None, path: None, line: None }
    }

    #[test]
    fn a_secret_is_recognized_by_each_of_its_parts() {
        let by = Fingerprinter::new(b"key");
        let login = document(r#"{"client_id":"c","client_secret":"s1","access_key_id":"a","access_key_secret":"s2"}"#);
        let check = |finding: &Finding, part| assert_eq!(Part::of(&login, finding, &by), part);
        check(&finding(by.fingerprint(b"s1")), Some(Part::ClientSecret));
        check(&finding(by.fingerprint(b"s2")), Some(Part::AccessKeySecret));
        check(&finding(by.fingerprint(b"c")), None);
        check(&finding(Fingerprinter::new(b"other").fingerprint(b"s1")), None);
        let login_fingerprint = Some(login.fingerprint(&by));
        check(&Finding { login_fingerprint, ..finding(by.fingerprint(b"")) }, Some(Part::Login));
        assert!(Part::ClientSecret.stays(PlatformKind::Cxone).is_some());
        assert!(Part::ClientSecret.stays(PlatformKind::Genesys).is_none());
    }
}
