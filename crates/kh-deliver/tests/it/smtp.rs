//! A strict submission server: implicit TLS or STARTTLS, AUTH PLAIN and LOGIN.
//!
//! Rules and their sources: the order of commands, 503 (RFC 5321 section 4.1.4); no AUTH before TLS, 538 (RFC 4954
//! section 6) and 530 for anything else (RFC 3207 section 4); EHLO anew after TLS (RFC 3207 section 4.2); 535 for a wrong
//! password; mail without a login is refused with 530 (RFC 6409 section 4.3); lines of at most 998 characters, dots
//! doubled at the beginning of lines (RFC 5321 section 4.5).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// One message as it was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) text: String,
}

/// How the server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Implicit,
    StartTls,
    /// Says nothing of STARTTLS, as an attacker on the way would have it.
    Stripped,
}

pub(crate) struct Smtp {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    pub(crate) taken: Arc<Mutex<Vec<Taken>>>,
    /// Every line that came in clear.
    pub(crate) in_clear: Arc<Mutex<Vec<String>>>,
    /// The answer to DATA's end, in place of 250.
    pub(crate) verdict: Arc<Mutex<String>>,
    /// The answers to RCPT by address, in place of 250.
    pub(crate) receivers: Arc<Mutex<BTreeMap<String, String>>>,
    task: JoinHandle<()>,
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Session {
    manner: Manner,
    password: &'static str,
    taken: Arc<Mutex<Vec<Taken>>>,
    in_clear: Arc<Mutex<Vec<String>>>,
    verdict: Arc<Mutex<String>>,
    receivers: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Smtp {
    pub(crate) async fn start(manner: Manner, password: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, ca) = crate::server::tls();
        let session = Session {
            manner,
            password,
            taken: Arc::default(),
            in_clear: Arc::default(),
            verdict: Arc::new(Mutex::new("250 taken".to_owned())),
            receivers: Arc::default(),
        };
        let (taken, in_clear, verdict) =
            (Arc::clone(&session.taken), Arc::clone(&session.in_clear), Arc::clone(&session.verdict));
        let receivers = Arc::clone(&session.receivers);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (session, acceptor) = (session.clone(), acceptor.clone());
                tokio::spawn(async move {
                    drop(session.connection(stream, acceptor).await);
                });
            }
        });
        Self { address, ca, taken, in_clear, verdict, receivers, task }
    }
}

impl Session {
    async fn connection(self, stream: tokio::net::TcpStream, acceptor: TlsAcceptor) -> std::io::Result<()> {
        if self.manner == Manner::Implicit {
            let mut stream = BufReader::new(acceptor.accept(stream).await?);
            say(&mut stream, "220 mail.example ESMTP").await?;
            return self.protected(stream).await;
        }
        let mut stream = BufReader::new(stream);
        say(&mut stream, "220 mail.example ESMTP").await?;
        loop {
            let line = read(&mut stream).await?;
            self.in_clear.lock().unwrap().push(line.clone());
            match line.to_ascii_uppercase().split(' ').next().unwrap_or_default() {
                "EHLO" if self.manner == Manner::Stripped => say(&mut stream, "250 mail.example").await?,
                "EHLO" => say(&mut stream, "250-mail.example\r\n250 STARTTLS").await?,
                "STARTTLS" if self.manner == Manner::StartTls => {
                    say(&mut stream, "220 go ahead").await?;
                    let stream = acceptor.accept(stream.into_inner()).await?;
                    return self.protected(BufReader::new(stream)).await;
                }
                "AUTH" => say(&mut stream, "538 5.7.11 Encryption required").await?,
                "QUIT" => return say(&mut stream, "221 bye").await,
                _ => say(&mut stream, "530 5.7.0 Must issue a STARTTLS command first").await?,
            }
        }
    }

    async fn protected(&self, mut stream: BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> std::io::Result<()> {
        let (mut greeted, mut known, mut from, mut to) = (false, false, None, Vec::new());
        loop {
            let line = read(&mut stream).await?;
            let upper = line.to_ascii_uppercase();
            let answer = match upper.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => {
                    greeted = true;
                    "250-mail.example\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN".to_owned()
                }
                "QUIT" => return say(&mut stream, "221 bye").await,
                _ if !greeted => "503 5.5.1 EHLO first".to_owned(),
                "AUTH" if upper.starts_with("AUTH PLAIN ") => {
                    let given = STANDARD.decode(line.rsplit(' ').next().unwrap_or_default()).unwrap_or_default();
                    known = given == format!("\0mailer\0{}", self.password).into_bytes();
                    if known { "235 2.7.0 ok".to_owned() } else { format!("535 5.7.8 no: {line}") }
                }
                "MAIL" if !known => "530 5.7.0 Authentication required".to_owned(),
                "MAIL" => {
                    from = Some(line.clone());
                    "250 ok".to_owned()
                }
                "RCPT" if from.is_some() => {
                    let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                    let answer = self.receivers.lock().unwrap().get(address).cloned();
                    let answer = answer.unwrap_or_else(|| "250 ok".to_owned());
                    if answer.starts_with("250") {
                        to.push(line.clone());
                    }
                    answer
                }
                "DATA" if !to.is_empty() => {
                    say(&mut stream, "354 go on").await?;
                    let text = self.data(&mut stream).await?;
                    let message = Taken { from: from.take().unwrap_or_default(), to: std::mem::take(&mut to), text };
                    let verdict = self.verdict.lock().unwrap().clone();
                    if verdict.starts_with("250") {
                        self.taken.lock().unwrap().push(message);
                    }
                    verdict
                }
                "RCPT" | "DATA" => "503 5.5.1 Bad sequence of commands".to_owned(),
                _ => "502 5.5.1 not known".to_owned(),
            };
            say(&mut stream, &answer).await?;
        }
    }

    async fn data(&self, stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> std::io::Result<String> {
        let mut text = String::new();
        loop {
            let line = read(stream).await?;
            assert!(line.len() <= 998, "a line is too long");
            if line == "." {
                return Ok(text);
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push('\n');
        }
    }
}

async fn read(stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> std::io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    assert!(line.ends_with("\r\n"), "{line:?}");
    Ok(line.trim_end().to_owned())
}

async fn say(stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    stream.flush().await
}
