//! Notices by e-mail, handed to a submission server (RFC 6409) over TLS: implicit (RFC 8314 section 3.3) or STARTTLS
//! (RFC 3207), which is required: a server that does not offer it gets neither password nor message.
//!
//! Each receiver has a transaction of its own, with the same message: one address that the server refuses costs nobody
//! else the notice, and one that it puts off is tried again alone.
//!
//! Invariant: the password goes to a server whose certificate was verified, and the server's words are told nowhere:
//! its reply to a login may repeat it.

use std::{collections::VecDeque, net::IpAddr, path::PathBuf, time::Duration};

use kh_core::port::{BoxFuture, Notice, Urgency};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    address::Envelope,
    message::{
        Mailbox,
        header::{ContentType, Header, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{Channel, text};
use crate::{SecretFile, SendError};

/// Time for one command of the server's; the whole message takes six to nine.
const COMMAND_TIME: Duration = Duration::from_secs(15);

/// Time for the whole message to one receiver.
const MESSAGE_TIME: Duration = Duration::from_mins(1);

/// Most receivers of one notice: more people are a mailing list.
const RECEIVERS_MAX: usize = 20;

/// Longest subject, in characters.
const SUBJECT_MAX: usize = 150;

/// Notices of which it is remembered who has them: a lane tries one at a time, and one that it gave up may be told again.
const REMEMBERED_MAX: usize = 64;

/// How the connection is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailTls {
    /// From the first byte on, port 465.
    Implicit,
    /// After the greeting, port 587.
    StartTls,
    /// Not at all, to a server on this machine alone.
    Plain,
}

/// Why mail cannot be sent this way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// An address.
    #[error("{0:?} is no e-mail address")]
    Address(String),
    /// None, or more than a notice goes to.
    #[error("name 1 to {RECEIVERS_MAX} receivers")]
    Receivers,
    /// Mail and password would cross the network in clear.
    #[error("mail without TLS goes to a server on this machine alone")]
    PlainElsewhere,
}

/// What came so far of a notice that is tried again.
#[derive(Default, Debug)]
struct Progress {
    /// Receivers who have it or are refused for good, by their place in the configuration.
    settled: Vec<usize>,
    /// Whether one of them has it.
    taken: bool,
}

/// Why a receiver did not get a message.
enum Failure {
    /// Another one may get it.
    Receiver(SendError),
    /// It is the same for everybody.
    Server(SendError),
}

/// Mail by a submission server.
#[derive(Debug)]
pub struct Mail {
    name: String,
    threshold: Urgency,
    host: String,
    port: u16,
    tls: MailTls,
    ca_file: Option<PathBuf>,
    login: Option<(String, SecretFile)>,
    from: Mailbox,
    to: Vec<Mailbox>,
    progress: Mutex<VecDeque<(Uuid, Progress)>>,
}

impl Mail {
    /// Mail from `from` to `to` by the server at `host` and `port`.
    pub fn new(
        name: impl Into<String>,
        threshold: Urgency,
        (host, port, tls): (&str, u16, MailTls),
        from: &str,
        to: &[String],
    ) -> Result<Self, MailError> {
        if to.is_empty() || to.len() > RECEIVERS_MAX {
            return Err(MailError::Receivers);
        }
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if tls == MailTls::Plain && !is_here {
            return Err(MailError::PlainElsewhere);
        }
        let to = to.iter().map(|text| mailbox(text)).collect::<Result<_, _>>()?;
        let from = mailbox(from)?;
        let (name, host) = (name.into(), host.to_owned());
        let progress = Mutex::default();
        Ok(Self { name, threshold, host, port, tls, ca_file: None, login: None, from, to, progress })
    }

    /// The same with a login: the user's name, and the file with the password.
    #[must_use]
    pub fn with_login(self, user: impl Into<String>, password: SecretFile) -> Self {
        Self { login: Some((user.into(), password)), ..self }
    }

    /// The same, trusting exactly the authorities of this PEM file in place of the system's.
    #[must_use]
    pub fn trusting(self, ca_file: impl Into<PathBuf>) -> Self {
        Self { ca_file: Some(ca_file.into()), ..self }
    }

    async fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, SendError> {
        let mut parameters = TlsParameters::builder(self.host.clone());
        if let Some(path) = &self.ca_file {
            let unusable = |what: String| SendError::Refused(format!("the CA file {} {what}", path.display()));
            let pem = tokio::fs::read(path).await.map_err(|e| unusable(format!("cannot be read: {}", e.kind())))?;
            let certificate = Certificate::from_pem(&pem).map_err(|_| unusable("holds no certificate".to_owned()))?;
            parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(certificate);
        }
        let parameters =
            parameters.build_rustls().map_err(|_| SendError::refused("no TLS configuration can be made"))?;
        let tls = match self.tls {
            MailTls::Implicit => Tls::Wrapper(parameters),
            MailTls::StartTls => Tls::Required(parameters),
            MailTls::Plain => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(self.host.clone())
            .port(self.port)
            .tls(tls)
            .timeout(Some(COMMAND_TIME));
        if let Some((user, password)) = &self.login {
            // the library keeps it as plain text, which is not wiped, until the transport is dropped after this notice
            builder = builder.credentials(Credentials::new(user.clone(), password.read().await?.expose().to_owned()));
        }
        Ok(builder.build())
    }

    fn message(&self, notice: &Notice) -> Result<Message, SendError> {
        let (urgency, summary) = (text::urgency(notice.urgency), text::summary(notice));
        let subject = text::sentence(&format!("[keyholder] {urgency}: {summary}"), SUBJECT_MAX);
        let facts: Vec<String> = text::facts(notice).iter().map(|(name, fact)| format!("{name}: {fact}\n")).collect();
        let body = format!("{summary}\n\n{}", facts.concat());
        let domain = self.from.email.domain();
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .message_id(Some(format!("<{}@{domain}>", notice.id)))
            .header(ContentType::TEXT_PLAIN)
            .header(AutoSubmitted);
        for receiver in &self.to {
            message = message.to(receiver.clone());
        }
        message.body(body).map_err(|_| SendError::refused("the notice cannot be written as a message"))
    }

    /// One transaction, which the library ends with the first receiver who is refused: nobody has the message then.
    async fn hand_over(
        &self,
        transport: &AsyncSmtpTransport<Tokio1Executor>,
        receivers: &[&Mailbox],
        message: &[u8],
    ) -> Result<(), Failure> {
        let receivers = receivers.iter().map(|receiver| receiver.email.clone()).collect();
        let envelope = Envelope::new(Some(self.from.email.clone()), receivers)
            .map_err(|_| Failure::Receiver(SendError::refused("no envelope can be made for the receiver")))?;
        match tokio::time::timeout(MESSAGE_TIME, transport.send_raw(&envelope, message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_of_server(&error) => Err(Failure::Server(explain(&error))),
            Ok(Err(error)) => Err(Failure::Receiver(explain(&error))),
            Err(_elapsed) => Err(Failure::Server(SendError::transient("the mail server did not finish in time"))),
        }
    }

    /// What came of the notice so far, and forgets it.
    fn recall(&self, notice: Uuid) -> Progress {
        let mut known = self.progress.lock();
        let place = known.iter().position(|(id, _)| *id == notice);
        place.and_then(|place| known.remove(place)).map(|(_, progress)| progress).unwrap_or_default()
    }

    fn remember(&self, notice: Uuid, progress: Progress) {
        if progress.settled.is_empty() {
            return;
        }
        let mut known = self.progress.lock();
        if known.len() >= REMEMBERED_MAX {
            known.pop_front();
        }
        known.push_back((notice, progress));
    }

    fn tell_refused(&self, notice: &Notice, refused: &[(&Mailbox, SendError)]) {
        for (receiver, error) in refused {
            tracing::warn!(
                notice.channel = self.name.as_str(), notice.id = %notice.id, notice.receiver = %receiver.email,
                error.cause = %error, "a receiver of a notice was refused by the mail server"
            );
        }
    }
}

impl Channel for Mail {
    fn name(&self) -> &str {
        &self.name
    }

    fn threshold(&self) -> Urgency {
        self.threshold
    }

    /// Done when somebody has it and nobody is left to try; refused when everybody was.
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            let (message, transport) = (self.message(notice)?.formatted(), self.transport().await?);
            let mut progress = self.recall(notice.id);
            let (mut unsettled, mut refused) = (None, Vec::new());
            let open = self.to.iter().enumerate().filter(|(place, _)| !progress.settled.contains(place));
            let open: Vec<(usize, &Mailbox)> = open.collect();
            let all: Vec<&Mailbox> = open.iter().map(|(_, receiver)| *receiver).collect();
            // as a rule one transaction does; where it does not, each one says whose fault it is
            if all.len() > 1 {
                match self.hand_over(&transport, &all, &message).await {
                    Ok(()) => return Ok(()),
                    Err(Failure::Receiver(_)) => {}
                    Err(Failure::Server(error)) => {
                        self.remember(notice.id, progress);
                        return Err(error);
                    }
                }
            }
            for (place, receiver) in open {
                match self.hand_over(&transport, &[receiver], &message).await {
                    Ok(()) => {
                        progress.settled.push(place);
                        progress.taken = true;
                    }
                    Err(Failure::Receiver(error @ SendError::Refused(_))) => {
                        progress.settled.push(place);
                        refused.push((receiver, error));
                    }
                    Err(Failure::Receiver(error)) => unsettled = Some(error),
                    Err(Failure::Server(error)) => {
                        // who has it, or was put off, is not undone by a login that is refused from here on
                        let is_begun = progress.taken || unsettled.is_some();
                        unsettled = Some(if is_begun { SendError::transient(error.to_string()) } else { error });
                        break;
                    }
                }
            }
            if let Some(error) = unsettled {
                self.tell_refused(notice, &refused);
                self.remember(notice.id, progress);
                return Err(error);
            }
            if progress.taken {
                self.tell_refused(notice, &refused);
                return Ok(());
            }
            refused.pop().map_or(Ok(()), |(_, error)| Err(error))
        })
    }
}

/// Whether a failure is the same for every receiver: the way to the server, or the login (RFC 4954 section 6). The
/// library's own refusal may be about one address.
fn is_of_server(error: &lettre::transport::smtp::Error) -> bool {
    const CODES: [u16; 4] = [530, 534, 535, 538];
    error.status().map_or(!error.is_client(), |code| CODES.contains(&u16::from(code)))
}

/// A 5xx reply is final (RFC 5321 section 4.2.1), and so is a server that lacks what is configured. The rest may pass, a
/// certificate that does not verify too: the CA file is read anew each time.
fn explain(error: &lettre::transport::smtp::Error) -> SendError {
    let code = error.status().map_or_else(String::new, |code| format!(" with {code}"));
    if error.is_permanent() {
        return SendError::Refused(format!("the mail server refused the message{code}"));
    }
    if error.is_transient() {
        return SendError::transient(format!("the mail server put the message off{code}"));
    }
    if error.is_timeout() {
        return SendError::transient("the mail server did not answer in time");
    }
    if error.is_client() {
        return SendError::refused("the mail server does not offer what is configured, TLS or a way to log in");
    }
    SendError::transient("the connection to the mail server failed")
}

fn mailbox(text: &str) -> Result<Mailbox, MailError> {
    let address: Address = text.parse().map_err(|_| MailError::Address(text.chars().take(64).collect()))?;
    Ok(Mailbox::new(None, address))
}

/// `Auto-Submitted: auto-generated` (RFC 3834 section 5), so that no vacation notice comes back.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
