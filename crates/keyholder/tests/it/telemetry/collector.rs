//! An OpenTelemetry collector in a thread: takes OTLP over HTTP and decodes it with the official message types.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::Metric,
    trace::v1::Span,
};
use prost::Message;

/// How it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// 200 to everything.
    Friendly,
    /// 503 to everything.
    Overloaded,
    /// Never answers.
    Silent,
}

/// Path, head and body of each request.
type Heard = Arc<Mutex<Vec<(String, String, Vec<u8>)>>>;

/// A running collector. Its thread lives as long as the test's process.
pub struct Collector {
    pub url: String,
    heard: Heard,
}

impl Collector {
    pub fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Heard::default();
        let shared = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || take(stream, mood, &shared));
            }
        });
        Self { url, heard }
    }

    /// Heads and bodies as they came.
    pub fn raw(&self) -> Vec<Vec<u8>> {
        self.heard
            .lock()
            .unwrap()
            .iter()
            .map(|(path, head, body)| [path.as_bytes(), head.as_bytes(), body].concat())
            .collect()
    }

    /// Bodies as they came, without the heads, which hold the collector's key.
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().iter().map(|(.., body)| body.clone()).collect()
    }

    pub fn heads(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|(_, head, _)| head.clone()).collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        let requests =
            self.bodies("/v1/traces").into_iter().map(|body| ExportTraceServiceRequest::decode(&*body).unwrap());
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|spans| spans.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The metrics of the last export.
    pub fn metrics(&self) -> Vec<Metric> {
        let Some(body) = self.bodies("/v1/metrics").pop() else { return Vec::new() };
        let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
        let scopes = request.resource_metrics.into_iter().flat_map(|metrics| metrics.scope_metrics);
        scopes.flat_map(|scope| scope.metrics).collect()
    }

    fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(of, ..)| of == path).map(|(.., body)| body.clone()).collect()
    }
}

fn take(stream: TcpStream, mood: Mood, heard: &Mutex<Vec<(String, String, Vec<u8>)>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let before = head.len();
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
            let line = head[before..].trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        heard.lock().unwrap().push((path, head, body));
        let answer: &[u8] = match mood {
            Mood::Friendly => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Mood::Overloaded => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            Mood::Silent => {
                // until the other side gives up
                reader.read_to_end(&mut Vec::new()).ok();
                return;
            }
        };
        if reader.get_mut().write_all(answer).is_err() {
            return;
        }
    }
}

/// An attribute as text.
pub fn attribute(of: &[KeyValue], key: &str) -> Option<String> {
    match of.iter().find(|attribute| attribute.key == key)?.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}
