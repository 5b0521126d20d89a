//! Why a platform did not answer, be it that the caller did not finish its request. No variant holds a header or a body.

use http::StatusCode;
use kh_core::Code;
use kh_net::ConnectError;

use crate::answer::Refusal;

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
    /// The caller's body broke off, so that there was no whole request to answer.
    #[error("the request body broke off")]
    BodyBroken,
    /// The caller's body did not move on in time.
    #[error("the request body did not come in time")]
    BodySlow,
}

impl UpstreamError {
    /// What an exchange on an open connection failed of.
    pub(crate) fn of_exchange(error: hyper::Error) -> Self {
        match kh_net::tls::cause(&error) {
            Some(tls @ rustls::Error::AlertReceived(_)) => Self::Tls(tls.clone()),
            _ => Self::Protocol(error),
        }
    }

    /// The refusal of a request that its own caller did not finish; none where it is the platform that failed.
    pub(crate) fn of_caller(&self) -> Option<Refusal> {
        let status = match self {
            Self::BodyBroken => StatusCode::BAD_REQUEST,
            // RFC 9110 section 15.5.9
            Self::BodySlow => StatusCode::REQUEST_TIMEOUT,
            Self::Connect(_) | Self::Tls(_) | Self::Address(_) | Self::AnswerTimeout | Self::Protocol(_) => {
                return None;
            }
        };
        Some(Refusal { status, close: true, ..Refusal::new(self.code(), self.detail()) })
    }

    /// The stable code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Connect(error) => error.code(),
            Self::Address(_) => Code::UPSTREAM_UNREACHABLE,
            Self::AnswerTimeout => Code::UPSTREAM_TIMEOUT,
            Self::Tls(_) => Code::UPSTREAM_TLS,
            Self::Protocol(_) => Code::UPSTREAM_PROTOCOL,
            Self::BodyBroken | Self::BodySlow => Code::REQUEST_MALFORMED,
        }
    }

    /// The kind, as metrics and spans name it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(ConnectError::Timeout) | Self::AnswerTimeout => "timeout",
            Self::Connect(ConnectError::Tls(_)) | Self::Tls(_) => "tls",
            Self::Connect(_) | Self::Address(_) => "connect",
            Self::Protocol(_) => "protocol",
            // as where the caller is gone before anybody could notice why
            Self::BodyBroken | Self::BodySlow => "cancelled",
        }
    }

    /// For the caller: what failed, with the reason where it helps whoever has to act.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Connect(error) => error.detail(),
            Self::Tls(source) => format!("{self}: {}", kh_net::tls::explain_tls(source)),
            Self::Address(source) => format!("{self}: {source}"),
            Self::AnswerTimeout | Self::Protocol(_) | Self::BodyBroken | Self::BodySlow => self.to_string(),
        }
    }
}
