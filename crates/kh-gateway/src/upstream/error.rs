//! Why a platform did not answer. No variant holds a header or a body.

use kh_core::Code;

/// A failed attempt to reach a platform.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No name, no route, refused.
    #[error("the platform could not be reached")]
    Unreachable(#[source] std::io::Error),
    /// Not connected in time.
    #[error("the platform did not accept a connection in time")]
    ConnectTimeout,
    /// The handshake failed: an expired or unknown certificate, a wrong name.
    #[error("the TLS connection to the platform failed")]
    Tls(#[source] std::io::Error),
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
    /// The stable code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Unreachable(_) | Self::Address(_) => Code::UPSTREAM_UNREACHABLE,
            Self::ConnectTimeout | Self::AnswerTimeout => Code::UPSTREAM_TIMEOUT,
            Self::Tls(_) => Code::UPSTREAM_TLS,
            Self::Protocol(_) => Code::UPSTREAM_PROTOCOL,
        }
    }

    /// The kind, as metrics and spans name it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Address(_) => "connect",
            Self::Tls(_) => "tls",
            Self::ConnectTimeout | Self::AnswerTimeout => "timeout",
            Self::Protocol(_) => "protocol",
        }
    }

    /// For the caller: what failed, with the reason where it helps whoever has to act.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Tls(source) => format!("{self}: {source}"),
            Self::Address(source) => format!("{self}: {source}"),
            Self::Unreachable(source) => format!("{self}: {}", source.kind()),
            Self::ConnectTimeout | Self::AnswerTimeout | Self::Protocol(_) => self.to_string(),
        }
    }
}
