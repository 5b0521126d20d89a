//! An issuer and API that tell back what they were sent, in every place where a program might repeat it.
//!
//! Invariant: which way it answers is decided by the first segment of the path alone.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::forms::secret_text;

/// Ways to answer a token request, each a first path segment.
pub const WAYS: [&str; 9] =
    ["echo-description", "echo-code", "bad-json", "wrong-type", "page", "redirect", "cut", "no-token", "header"];

/// Listens on a free port; answers its URL.
pub fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    url
}

/// The token that `way` issues.
pub fn token(way: &str) -> String {
    secret_text(&format!("hostile token of {way}"))
}

/// The refresh token that comes with it.
pub fn refresh_token(way: &str) -> String {
    secret_text(&format!("hostile refresh token of {way}"))
}

fn serve(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() >= length(head)
        {
            // The caller may be gone.
            stream.write_all(&answer(head, body)).ok();
            return;
        }
    }
}

fn header<'h>(head: &'h str, name: &str) -> &'h str {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
}

fn length(head: &str) -> usize {
    header(head, "content-length").parse().unwrap_or(0)
}

fn whole(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

const JSON: &str = "Content-Type: application/json\r\n";

fn answer(head: &str, body: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let way = path.split('/').nth(1).unwrap_or_default();
    let authorization = header(head, "authorization");
    if !path.ends_with("/token") {
        return api(way, authorization);
    }
    let told = told(authorization, body);
    let (token, refresh) = (token(way), refresh_token(way));
    let good = json!({"access_token": token, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600});
    match way {
        "echo-description" => {
            let error = json!({"error": "invalid_client", "error_description": format!("{told} {authorization}"),
                "error_uri": format!("https://example.com/?secret={told}"), "message": told});
            whole("400 Bad Request", JSON, &error.to_string())
        }
        "echo-code" => {
            let error = json!({"error": told, "code": told, "message": told});
            whole("401 Unauthorized", JSON, &error.to_string())
        }
        "bad-json" => whole("200 OK", JSON, &good.to_string().replace("\"expires_in\"", "expires_in")),
        "wrong-type" => {
            let body = json!({"access_token": [token], "refresh_token": {"v": refresh}, "expires_in": token});
            whole("200 OK", JSON, &body.to_string())
        }
        "page" => whole("200 OK", "Content-Type: text/html\r\n", &format!("<p>{token} {told}</p>")),
        "redirect" => whole("302 Found", &format!("Location: http://127.0.0.1:1/?secret={token}\r\n"), ""),
        "cut" => {
            let mut whole = whole("200 OK", JSON, &good.to_string());
            whole.truncate(whole.len() - 20);
            whole
        }
        "no-token" => whole("200 OK", JSON, &json!({"refresh_token": refresh, token: "x"}).to_string()),
        "header" => {
            let headers = format!("{JSON}WWW-Authenticate: Bearer realm=\"{told}\"\r\nRetry-After: {told}\r\n");
            whole("503 Service Unavailable", &headers, &told)
        }
        _ => whole("200 OK", JSON, &good.to_string()),
    }
}

/// The client secret, as the caller sent it.
fn told(authorization: &str, body: &str) -> String {
    let basic = authorization.strip_prefix("Basic ").and_then(|value| STANDARD.decode(value).ok());
    let basic = basic.and_then(|bytes| String::from_utf8(bytes).ok());
    basic.and_then(|pair| pair.split_once(':').map(|(_, secret)| secret.to_owned())).unwrap_or_else(|| body.to_owned())
}

/// Refuses every call and repeats its token wherever a platform puts text into an error.
fn api(way: &str, authorization: &str) -> Vec<u8> {
    let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
    let body = json!({"code": token, "message": token, "error": token, "contextId": token});
    let headers = format!("{JSON}WWW-Authenticate: Bearer error=\"{token}\"\r\n");
    match way {
        "refusing" => whole("401 Unauthorized", &headers, &body.to_string()),
        _ => whole("200 OK", JSON, "{}"),
    }
}
