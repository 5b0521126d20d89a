//! Why a platform did not answer. No variant holds a header or a body.

use kh_core::Code;
use kh_net::ConnectError;

/// A failed attempt to reach a platform.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection came out.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// TLS failed on an open connection: with TLS 1.3 a server refuses a client certificate, or the lack of one, only
    /// after the handshake.
    #[error("the TLS connection to the platform failed")]
    Tls(#[source] rustls::Error),
    /// The address of the platform's API is not a URL that can be called.
    #[error("the platform's address is not valid")]
    Address(#[from] super::OriginError),
    /// The answer did not start in time.
    #[error("the platform did not answer in time")]
    AnswerTimeout,
    /// The connection broke or what came was not HTTP.
    #[error("the platform's answer broke off or is not HTTP")]
    Protocol(#[source] hyper::Error),
}

impl UpstreamError {
    /// What an exchange on an open connection failed of.
    pub(crate) fn of_exchange(error: hyper::Error) -> Self {
        match kh_net::tls::cause(&error) {
            Some(tls @ rustls::Error::AlertReceived(_)) => Self::Tls(tls.clone()),
            _ => Self::Protocol(error),
        }
    }

    /// The stable code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Connect(error) => error.code(),
            Self::Address(_) => Code::UPSTREAM_UNREACHABLE,
            Self::AnswerTimeout => Code::UPSTREAM_TIMEOUT,
            Self::Tls(_) => Code::UPSTREAM_TLS,
            Self::Protocol(_) => Code::UPSTREAM_PROTOCOL,
        }
    }

    /// The kind, as metrics and spans name it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(ConnectError::Timeout) | Self::AnswerTimeout => "timeout",
            Self::Connect(ConnectError::Tls(_)) | Self::Tls(_) => "tls",
            Self::Connect(_) | Self::Address(_) => "connect",
            Self::Protocol(_) => "protocol",
        }
    }

    /// For the caller: what failed, with the reason where it helps whoever has to act.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Connect(error) => error.detail(),
            Self::Tls(source) => format!("{self}: {}", kh_net::tls::explain_tls(source)),
            Self::Address(source) => format!("{self}: {source}"),
            Self::AnswerTimeout | Self::Protocol(_) => self.to_string(),
        }
    }
}
