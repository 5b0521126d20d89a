//! The rig: nginx as the platform (a token endpoint and a 1 KB answer), nginx as plain proxy, keyholder as gateway,
//! each proxy with one worker on core 0; the load and the platform on core 1.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, Server, text};

/// Bytes of the platform's answer.
const BODY_BYTES: usize = 1024;

/// The running servers.
pub struct Rig {
    /// The platform itself.
    pub direct: String,
    /// nginx, plain proxying with upstream keep-alive, no access log.
    pub nginx: Proxy,
    /// keyholder.
    pub keyholder: Proxy,
    /// Address of keyholder's broker and the file with its guard token.
    pub broker: (String, PathBuf),
    /// The application's token.
    pub token: String,
    _platform: Server,
    _folder: TempDir,
}

/// What nginx shows where it speaks TLS.
pub(super) struct Certificate {
    /// The certificate's file.
    pub(super) cert: PathBuf,
    /// Its key's file.
    pub(super) key: PathBuf,
}

/// A keyholder that serves a configuration with the credential and the client `bench`.
pub(super) struct Keyholder {
    /// Where it listens, from its ready file.
    pub(super) addresses: Value,
    /// The client's id and secret.
    pub(super) client: Value,
    /// The process.
    pub(super) server: Server,
}

/// One proxy under test.
pub struct Proxy {
    /// Its origin.
    pub url: String,
    /// Process that does the work.
    pub worker_pid: u32,
    _server: Server,
}

impl Proxy {
    /// A proxy whose one process is `server`.
    pub(super) fn new(url: String, server: Server) -> Self {
        Self { url, worker_pid: server.pid(), _server: server }
    }
}

impl Rig {
    /// Starts everything. `wrapper` is put in front of both proxies' command lines (a CPU pin, a counter).
    pub fn start(keyholder: &Path, wrapper: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (platform_port, nginx_port) = (free_port()?, free_port()?);
        let platform_config = folder.path().join("platform.conf");
        fs::write(&platform_config, nginx_config(folder.path(), "platform", &platform_server(platform_port, None)))?;
        let platform = start_nginx(&["taskset", "-c", "1"], &platform_config, folder.path(), platform_port)?;
        let proxy_config = folder.path().join("proxy.conf");
        fs::write(&proxy_config, nginx_config(folder.path(), "proxy", &proxy_server(nginx_port, platform_port)))?;
        let nginx = start_nginx(wrapper, &proxy_config, folder.path(), nginx_port)?;
        let direct = format!("http://127.0.0.1:{platform_port}");
        let (keyholder, broker, token) = start_keyholder(keyholder, wrapper, &direct, folder.path())?;
        Ok(Self {
            direct,
            nginx: Proxy::new(format!("http://127.0.0.1:{nginx_port}"), nginx),
            keyholder,
            broker,
            token,
            _platform: platform,
            _folder: folder,
        })
    }
}

pub(super) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn answers(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

pub(super) fn wrapped(wrapper: &[&str], program: &Path) -> Command {
    match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    }
}

pub(super) fn start_nginx(wrapper: &[&str], config: &Path, folder: &Path, port: u16) -> Result<Server> {
    let mut command = wrapped(wrapper, Path::new("/usr/sbin/nginx"));
    command.arg("-p").arg(folder).arg("-c").arg(config);
    let mut server = Server::start("nginx", &mut command, &config.with_extension("log"))?;
    server.wait_until("its port", || answers(port))?;
    Ok(server)
}

/// One process without a master, so that one process id does all the work. No access log: keyholder's default log has no
/// line per request either.
pub(super) fn nginx_config(folder: &Path, name: &str, server: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.error error;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; sendfile on; tcp_nodelay on;\n\
         client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;\n\
         fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;\n{server} }}\n"
    )
}

pub(super) fn platform_server(port: u16, shows: Option<&Certificate>) -> String {
    let body = "x".repeat(BODY_BYTES - 12);
    let token = "t".repeat(86);
    let tls = shows.map_or(String::new(), |shows| {
        format!("ssl_certificate {}; ssl_certificate_key {};\n", shows.cert.display(), shows.key.display())
    });
    let ssl = if shows.is_some() { "ssl " } else { "" };
    format!(
        "server {{ listen 127.0.0.1:{port} {ssl}backlog=4096; {tls}default_type application/json;\n\
         location /oauth/token {{ return 200 '{{\"access_token\":\"{token}\",\"token_type\":\"bearer\",\"expires_in\":86400}}'; }}\n\
         location / {{ return 200 '{{\"name\":\"{body}\"}}'; }} }}"
    )
}

pub(super) fn proxy_server(port: u16, platform: u16) -> String {
    format!(
        "upstream platform {{ server 127.0.0.1:{platform}; keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096;\n\
         location / {{ proxy_pass http://platform; proxy_http_version 1.1; proxy_set_header Connection ''; }} }}"
    )
}

fn start_keyholder(
    program: &Path,
    wrapper: &[&str],
    platform: &str,
    folder: &Path,
) -> Result<(Proxy, (String, PathBuf), String)> {
    let Keyholder { addresses, client, server } = serve(program, wrapper, &keyholder_config(folder, platform), folder)?;
    let url = text(&addresses, "gateway_url")?.to_owned();
    let broker = (text(&addresses, "broker_url")?.to_owned(), PathBuf::from(text(&addresses, "broker_token_file")?));
    let token = login(&url, &client)?;
    Ok((Proxy::new(url, server), broker, token))
}

/// Stores the credential `bench`, adds a client for it, and serves.
pub(super) fn serve(program: &Path, wrapper: &[&str], config: &str, folder: &Path) -> Result<Keyholder> {
    let file = folder.join("keyholder.toml");
    fs::write(&file, config)?;
    let document = folder.join("secret");
    fs::write(&document, r#"{"client_id":"bench","client_secret":"bench-secret"}"#)?;
    let command = |words: &[&str]| {
        let mut command = Command::new(program);
        command.arg("--config").arg(&file).args(words);
        command
    };
    process::run(command(&["secret", "set", "bench", "--file"]).arg(&document))?;
    let words =
        ["--output", "json", "client", "add", "bench", "--credential", "bench", "--allow", "GET /api/v2/users/**"];
    let client: Value = serde_json::from_str(&process::output(&mut command(&words))?)?;
    let ready = folder.join("ready.json");
    let mut serve = wrapped(wrapper, program);
    serve.arg("--config").arg(&file).args(["serve", "--ready-file"]).arg(&ready);
    let mut server = Server::start("keyholder", &mut serve, &folder.join("keyholder.log"))?;
    let addresses = server.wait_for_json(&ready)?;
    Ok(Keyholder { addresses, client, server })
}

/// A token for the client, by a login with its secret.
pub(super) fn login(url: &str, client: &Value) -> Result<String> {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", text(client, "client_id")?),
        ("client_secret", text(client, "client_secret")?),
    ];
    let body =
        ureq::post(format!("{url}/oauth/token")).send_form(form).context("login")?.body_mut().read_to_string()?;
    Ok(text(&serde_json::from_str(&body)?, "access_token")?.to_owned())
}

fn keyholder_config(folder: &Path, platform: &str) -> String {
    let folder = folder.display();
    format!(
        r#"[state]
dir = "{folder}/state"
[gateway]
listen = ["127.0.0.1:0"]
workers = 1
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "127.0.0.1:0"
[platform.bench]
kind = "genesys"
login_url = "{platform}"
api_url = "{platform}"
[credential.bench]
platform = "bench"
secret = "store:bench"
"#
    )
}
