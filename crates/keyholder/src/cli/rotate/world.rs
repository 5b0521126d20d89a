//! What the commands of `rotate` work with: the installation, the platforms' management and the stores.
//!
//! Invariant: the broker that mints the rotators' tokens knows the rotators alone and ends with the command.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kh_broker::Broker;
use kh_core::{
    CredentialName,
    port::{JournalError, Notifier},
    rotation::RunId,
};
use kh_rotation::{Policy, Run};
use kh_rotator::{Halt, NotBegun, NotTaken, Subject, Times, orders};

use crate::{
    cli::{Context, Loaded},
    compose::{
        Base, Deliveries, Notices, Rotation, Senders, Targets, host, own_issuer, private_tokens, rules, services,
        subjects as make_subjects, targets,
    },
    output::Failure,
};

/// How long a command waits at its end for notices to arrive.
const NOTICES_END: Duration = Duration::from_secs(10);

/// Whether a command touches platforms and stores, calls hooks and sends notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subjects {
    /// It does.
    All,
    /// It only reads or writes the journal, and needs nothing else to be in order.
    None,
}

/// An open installation with everything that rotation needs.
pub(super) struct World {
    pub(super) rotation: Rotation,
    notices: Arc<Notices>,
    broker: Option<Arc<Broker>>,
    rules: BTreeMap<CredentialName, (Policy, Times)>,
    /// The installation.
    pub(super) base: Base,
    /// The stores outside, for commands that touch them.
    pub(super) targets: Targets,
    configured: Vec<CredentialName>,
    /// Every credential, rotated or not.
    known: Vec<CredentialName>,
}

impl World {
    /// Opens it over `base`. Must run on a runtime.
    pub(super) async fn open(
        base: Base,
        loaded: &Loaded,
        context: &Context,
        subjects: Subjects,
    ) -> Result<Self, Failure> {
        let configured = loaded.config.credentials.iter().filter(|(_, credential)| credential.rotation.is_some());
        let configured: Vec<_> = configured.map(|(name, _)| name.clone()).collect();
        let Deliveries { hooks, channels } = match subjects {
            Subjects::All => Senders::of(loaded, &context.environment, Arc::clone(&base.clock)).all(&host())?,
            Subjects::None => Deliveries { hooks: BTreeMap::new(), channels: Vec::new() },
        };
        let notices = Notices::start(channels, &loaded.config, &base.entropy);
        let services = services(&base, Arc::clone(&notices) as Arc<dyn Notifier>)?;
        let (subjects, broker, targets) = match subjects {
            Subjects::All => {
                let broker = private_tokens(loaded, &base)?;
                let targets = targets(loaded, &base.clock)?;
                let issuer = own_issuer(loaded, &base).await?;
                (make_subjects(loaded, &base, (&broker, issuer.as_ref()), &targets, &hooks)?, Some(broker), targets)
            }
            Subjects::None => (BTreeMap::new(), None, Targets::default()),
        };
        let rotation = Rotation { services, subjects };
        let known = loaded.config.credentials.keys().cloned().collect();
        Ok(Self { rotation, notices, broker, rules: rules(loaded), base, targets, configured, known })
    }

    /// Whether the configuration says how this credential is rotated.
    pub(super) fn is_configured(&self, name: &CredentialName) -> bool {
        self.configured.contains(name)
    }

    /// The credentials that are rotated.
    pub(super) fn configured(&self) -> &[CredentialName] {
        &self.configured
    }

    /// The failure of a credential that is not rotated, or not there at all.
    pub(super) fn unknown(&self, name: &CredentialName) -> Failure {
        if !self.known.contains(name) {
            let failure = Failure::usage(format!("there is no credential {name}"));
            return match crate::config::nearest(name.as_str(), self.known.iter().map(CredentialName::as_str)) {
                Some(similar) => failure.hint(format!("did you mean {similar}?")),
                None => failure.hint("`keyholder credential list` shows the names"),
            };
        }
        let failure = Failure::usage(format!("the configuration does not say how {name} is rotated"));
        let similar = crate::config::nearest(name.as_str(), self.configured.iter().map(CredentialName::as_str));
        match similar {
            Some(similar) => failure.hint(format!("did you mean {similar}?")),
            None => failure.hint(format!("add the section [credential.{name}.rotation]")),
        }
    }

    /// The rules of a credential now.
    pub(super) fn policy(&self, name: &CredentialName) -> Option<Policy> {
        let (policy, times) = self.rules.get(name)?;
        Some(Policy { calendar: times.calendar(self.rotation.services.now()), ..policy.clone() })
    }

    /// What is rotated under this name.
    pub(super) fn subject(&self, name: &CredentialName) -> Result<Arc<Subject>, Failure> {
        self.rotation.subjects.get(name).cloned().ok_or_else(|| self.unknown(name))
    }

    /// The credential of a run's id, or the name as it is.
    pub(super) async fn credential_of(&self, text: &str) -> Result<CredentialName, Failure> {
        if let Ok(run) = text.parse::<RunId>() {
            let found = self.rotation.services.journal.run(run).await;
            return Ok(found.map_err(|error| journal(&error))?.credential);
        }
        let name = text.parse::<CredentialName>();
        let name = name.map_err(|error| Failure::usage(error.to_string()).hint("give a run's id or a credential"))?;
        if self.is_configured(&name) { Ok(name) } else { Err(self.unknown(&name)) }
    }

    /// The run of a credential that has not ended.
    pub(super) async fn unfinished(&self, name: &CredentialName) -> Result<Option<Run>, Failure> {
        orders::unfinished(&self.rotation.services, name).await.map_err(|error| halt(&error))
    }

    /// A run, as it stands by now.
    pub(super) async fn run(&self, id: RunId) -> Result<Run, Failure> {
        orders::run(&self.rotation.services, id).await.map_err(|error| halt(&error))
    }

    /// Ends what was started; notices get some time to arrive.
    pub(super) async fn close(&self) {
        self.notices.close(NOTICES_END).await;
        if let Some(broker) = &self.broker {
            broker.shutdown().await;
        }
    }
}

pub(super) fn journal(error: &JournalError) -> Failure {
    let failure = Failure::of(error.code(), error);
    match error {
        JournalError::NotFound(_) => failure.hint("`keyholder rotate status` shows the runs"),
        JournalError::Unfinished(name, _) => failure.hint(format!("keyholder rotate status {name}")),
        JournalError::Held { credential, .. } => failure.hint(format!("keyholder rotate hold {credential} --lift")),
        JournalError::Fenced(_) | JournalError::MovedOn(_) | JournalError::Unavailable(_) => failure,
    }
}

pub(super) fn halt(error: &Halt) -> Failure {
    match error {
        Halt::Journal(error) => journal(error),
        Halt::Busy(name) | Halt::TakenOver(name) => Failure::of(error.code(), error)
            .hint("it goes on there; try again when that process waits or has ended")
            .hint(format!("keyholder rotate status {name}")),
        Halt::Reconfigured { run, .. } => Failure::of(error.code(), error)
            .hint("put the section back as it was until the run has ended")
            .hint(format!("or keyholder rotate abort {run} --leave --reason TEXT")),
        // a resume meets the same again
        Halt::NoEscrow { run, .. } => Failure::of(error.code(), error)
            .hint(format!("keyholder rotate status {run}"))
            .hint(format!("or keyholder rotate abort {run} --leave --reason TEXT")),
        Halt::Unreadable { run, .. } | Halt::Circles(run) => {
            Failure::of(error.code(), error).hint(format!("keyholder rotate status {run}"))
        }
        Halt::TimedOut(_) => Failure::of(error.code(), error),
        Halt::Escrow(_) => Failure::of(error.code(), error).hint("open the installation with the key that sealed it"),
    }
}

pub(super) fn not_begun(error: &NotBegun) -> Failure {
    match error {
        NotBegun::Halt(error) => halt(error),
        NotBegun::NoStrategy { .. } => Failure::of(error.code(), error).hint("strategy = \"auto\" takes what it can"),
        NotBegun::NoStore | NotBegun::Store { .. } => {
            Failure::of(error.code(), error).hint("keyholder rotate plan shows what each store allows")
        }
        NotBegun::Platform(_) => Failure::of(error.code(), error),
        NotBegun::LessUrgent(run) => Failure::of(error.code(), error).hint(format!("keyholder rotate status {run}")),
    }
}

pub(super) fn not_taken(error: &NotTaken) -> Failure {
    match error {
        NotTaken::Halt(error) => halt(error),
        NotTaken::NoRun(_) => {
            Failure::of(kh_core::Code::NOT_FOUND, error).hint("`keyholder rotate status` shows the runs")
        }
        NotTaken::Refused(refused) => {
            let failure = Failure::new(kh_core::Code::ROTATION_NEEDS_OPERATOR, refused.to_string())
                .exiting(crate::output::Exit::No);
            refused.next.iter().fold(failure, |failure, next| failure.hint(next.clone()))
        }
    }
}
