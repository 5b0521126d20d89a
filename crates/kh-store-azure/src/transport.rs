//! The SDK's requests over keyholder's own HTTP client: its proxies, authorities and limits in time and size hold here
//! too, buffers with secrets are wiped, and every failure tells whether the other side may have seen the request.
//!
//! Invariant: a request leaves only for the address that the client was made for, so that a link inside an answer can
//! never carry a token elsewhere.

use std::{fmt, pin::Pin};

use azure_core::{
    Bytes,
    error::{Error, ErrorKind},
    http::{
        AsyncRawResponse, Body, HttpClient as SdkClient, Request,
        headers::{HeaderName, HeaderValue, Headers},
    },
};
use kh_net::http::{Answer, HttpClient, HttpError, OutBody};
use url::{Origin, Url};
use zeroize::Zeroizing;

/// The metadata service of every machine (learn.microsoft.com/azure/virtual-machines/instance-metadata-service).
const METADATA_HOST: &str = "169.254.169.254";

/// Largest answer taken: a page of 25 items with their tags, or one secret of 25 KB whose every byte is escaped.
const ANSWER_MAX: usize = 1024 * 1024;

/// Where requests may go.
enum Reach {
    /// To this origin alone.
    Only(Origin),
    /// To the metadata service of this machine, which may be elsewhere than usual.
    Metadata(Option<Url>),
}

/// One way out for the SDK.
pub(crate) struct Wire {
    http: HttpClient,
    reach: Reach,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// Requests to the origin of `url` alone.
    pub(crate) fn only(http: HttpClient, url: &Url) -> Self {
        Self { http, reach: Reach::Only(url.origin()) }
    }

    /// Requests to the metadata service, at `instead` when it is not at its usual address.
    pub(crate) fn metadata(http: HttpClient, instead: Option<Url>) -> Self {
        Self { http, reach: Reach::Metadata(instead) }
    }

    /// Where this request goes.
    fn destination(&self, url: &Url) -> Result<Url, Error> {
        match &self.reach {
            Reach::Only(origin) if url.origin() == *origin => Ok(url.clone()),
            Reach::Only(_) => Err(refused("a request was led to another address than the configured one")),
            Reach::Metadata(Some(instead)) if url.host_str() == Some(METADATA_HOST) => {
                let mut moved = instead.clone();
                moved.set_path(url.path());
                moved.set_query(url.query());
                Ok(moved)
            }
            Reach::Metadata(_) => Ok(url.clone()),
        }
    }

    async fn send(&self, request: &Request) -> Result<AsyncRawResponse, Error> {
        let url = self.destination(request.url())?;
        let method = http::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|_| refused("the request has no method of HTTP"))?;
        let mut out = kh_net::http::Request::new(method, url).answer_max(ANSWER_MAX);
        let mut content_type = None;
        for (name, value) in request.headers().iter() {
            match name.as_str() {
                // set by the client itself
                "content-length" | "host" => {}
                "content-type" => content_type = Some(value.as_str()),
                other => out = out.header(header_name(other)?, header_value(other, value.as_str())?),
            }
        }
        let Body::Bytes(body) = request.body() else { return Err(refused("the request has a body of unknown length")) };
        if !body.is_empty() {
            let media = media(content_type).ok_or_else(|| refused("the request's body has an unknown type"))?;
            out = out.body(OutBody::new(media, Zeroizing::new(body.to_vec())));
        }
        self.http.send(out).await.map(answered).map_err(|error| failed(&error))
    }
}

fn media(content_type: Option<&str>) -> Option<&'static str> {
    let essence = content_type?.split(';').next()?.trim();
    ["application/json", "application/x-www-form-urlencoded"].into_iter().find(|known| *known == essence)
}

fn header_name(name: &str) -> Result<http::HeaderName, Error> {
    http::HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| refused("the request has a header that HTTP cannot carry"))
}

fn header_value(name: &str, value: &str) -> Result<http::HeaderValue, Error> {
    let bytes = Bytes::from_owner(Zeroizing::new(value.as_bytes().to_vec()));
    let mut value = http::HeaderValue::from_maybe_shared(bytes)
        .map_err(|_| refused("the request has a header value that HTTP cannot carry"))?;
    value.set_sensitive(name == "authorization" || name == "x-identity-header");
    Ok(value)
}

fn answered(answer: Answer) -> AsyncRawResponse {
    let mut headers = Headers::new();
    for (name, value) in &answer.head.headers {
        if let Ok(text) = value.to_str() {
            headers.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(text.to_owned()));
        }
    }
    AsyncRawResponse::from_bytes(answer.head.status.into(), headers, Bytes::from_owner(answer.body))
}

/// `Connection` says of itself that nothing was sent; all else may have been carried out.
fn failed(error: &HttpError) -> Error {
    let kind = if error.was_sent() { ErrorKind::Io } else { ErrorKind::Connection };
    Error::with_message(kind, error.to_string())
}

fn refused(why: &'static str) -> Error {
    Error::with_message(ErrorKind::Other, why)
}

impl SdkClient for Wire {
    fn execute_request<'client, 'request, 'future>(
        &'client self,
        request: &'request Request,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<AsyncRawResponse>> + Send + 'future>>
    where
        'client: 'future,
        'request: 'future,
        Self: 'future,
    {
        Box::pin(self.send(request))
    }
}
