//! The four proxies and what they share: an upstream with a 1 KB answer, the keys, and files of signed tokens.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{
    super::rig::{self, Proxy},
    PATH,
};
use crate::{
    process,
    process::Server,
    root,
    tools::{self, Tools},
};

pub(in crate::bench) const ISSUER: &str = "https://issuer.example.com";
pub(in crate::bench) const AUDIENCE: &str = "https://api.example.com";

/// How often a starting proxy is asked whether it answers; start-up is measured with it.
const ASK_EVERY: Duration = Duration::from_micros(200);
/// How many times it is asked at most: 30 s.
const ASKS: u32 = 150_000;

/// A proxy under test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    /// Plain proxying without authentication: the yardstick.
    Nginx,
    Keyholder,
    Haproxy,
    Envoy,
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx, plain proxy",
            Self::Keyholder => "keyholder, verified",
            Self::Haproxy => "haproxy, jwt_verify",
            Self::Envoy => "envoy, jwt_authn with cache",
        }
    }

    /// Whether it remembers tokens that it has verified.
    pub(super) fn remembers(self) -> bool {
        matches!(self, Self::Keyholder | Self::Envoy)
    }
}

/// How the tokens are signed.
#[derive(Clone, Copy)]
pub(in crate::bench) enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    const ALL: [Self; 2] = [Self::Rs256, Self::Es256];

    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// Writes `rs256.tokens` or `es256.tokens`, a token a line, and beside it the key as `.jwks.json` and `.pem`.
pub(in crate::bench) fn sign_tokens(tools: &Tools, folder: &Path, algorithm: Algorithm, count: usize) -> Result<()> {
    let script = root().join("tests/bench/tokens.py");
    process::run(Command::new(tools.python()).arg(script).arg(folder).arg(algorithm.name()).arg(count.to_string()))
}

/// Everything but the proxies.
pub(super) struct Stage {
    folder: TempDir,
    keyholder: PathBuf,
    envoy: Option<PathBuf>,
    upstream_port: u16,
    /// How many tokens of each algorithm there are.
    pub(super) count: usize,
    _upstream: Server,
}

impl Stage {
    /// Signs `count` tokens of each algorithm and starts the upstream.
    pub(super) fn set(keyholder: &Path, count: usize, peers: &[Peer]) -> Result<Self> {
        let tools = tools::install()?;
        let folder = tempfile::tempdir()?;
        for algorithm in Algorithm::ALL {
            sign_tokens(&tools, folder.path(), algorithm, count)?;
        }
        let upstream_port = rig::free_port()?;
        let config = folder.path().join("platform.conf");
        fs::write(&config, rig::nginx_config(folder.path(), "platform", &rig::platform_server(upstream_port, None)))?;
        let upstream = rig::start_nginx(&["taskset", "-c", "1"], &config, folder.path(), upstream_port)?;
        let keyholder = keyholder.to_owned();
        let envoy = if peers.contains(&Peer::Envoy) { Some(tools.envoy()?) } else { None };
        Ok(Self { folder, keyholder, envoy, upstream_port, count, _upstream: upstream })
    }

    fn file(&self, algorithm: Algorithm, kind: &str) -> PathBuf {
        self.folder.path().join(format!("{}.{kind}", algorithm.name().to_lowercase()))
    }

    /// The signed tokens, one per line.
    pub(super) fn tokens(&self, algorithm: Algorithm) -> PathBuf {
        self.file(algorithm, "tokens")
    }

    /// Starts one proxy and waits until it lets a valid token through.
    pub(super) fn start(&self, peer: Peer, algorithm: Algorithm, wrapper: &[&str]) -> Result<Proxy> {
        let port = rig::free_port()?;
        let mut command = match peer {
            Peer::Nginx => self.nginx(port, wrapper)?,
            Peer::Keyholder => self.serve(port, algorithm, wrapper),
            Peer::Haproxy => self.haproxy(port, algorithm, wrapper)?,
            Peer::Envoy => self.envoy(port, algorithm, wrapper)?,
        };
        let server = Server::start(peer.name(), &mut command, &self.folder.path().join("proxy.log"))?;
        let proxy = Proxy::new(format!("http://127.0.0.1:{port}"), server);
        self.wait(&proxy, algorithm)?;
        Ok(proxy)
    }

    fn wait(&self, proxy: &Proxy, algorithm: Algorithm) -> Result<()> {
        let tokens = fs::read_to_string(self.tokens(algorithm))?;
        let token = tokens.lines().next().context("there is no token")?;
        for _ in 0..ASKS {
            let answer =
                ureq::get(format!("{}{PATH}", proxy.url)).header("Authorization", format!("Bearer {token}")).call();
            match answer {
                Ok(_) => return Ok(()),
                Err(ureq::Error::StatusCode(status)) => bail!("a valid token got {status}"),
                Err(_) => std::thread::sleep(ASK_EVERY),
            }
        }
        bail!("{} does not answer: {}", proxy.url, fs::read_to_string(self.folder.path().join("proxy.log"))?)
    }

    fn nginx(&self, port: u16, wrapper: &[&str]) -> Result<Command> {
        let config = self.folder.path().join("proxy.conf");
        let server = rig::proxy_server(port, self.upstream_port);
        fs::write(&config, rig::nginx_config(self.folder.path(), "proxy", &server))?;
        let mut command = rig::wrapped(wrapper, Path::new("/usr/sbin/nginx"));
        command.arg("-p").arg(self.folder.path()).arg("-c").arg(config);
        Ok(command)
    }

    fn haproxy(&self, port: u16, algorithm: Algorithm, wrapper: &[&str]) -> Result<Command> {
        let config = self.filled("haproxy.cfg", port, algorithm)?;
        let mut command = rig::wrapped(wrapper, Path::new("/usr/sbin/haproxy"));
        command.arg("-f").arg(config);
        Ok(command)
    }

    fn envoy(&self, port: u16, algorithm: Algorithm, wrapper: &[&str]) -> Result<Command> {
        let config = self.filled("envoy.yaml", port, algorithm)?;
        let mut command = rig::wrapped(wrapper, self.envoy.as_deref().context("Envoy is not installed")?);
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(config);
        Ok(command)
    }

    /// A configuration from `tests/bench` with its places filled in.
    fn filled(&self, name: &str, port: u16, algorithm: Algorithm) -> Result<PathBuf> {
        let text = fs::read_to_string(root().join("tests/bench").join(name))?
            .replace("@PORT@", &port.to_string())
            .replace("@UPSTREAM@", &self.upstream_port.to_string())
            .replace("@ALGORITHM@", algorithm.name())
            .replace("@PEM@", &self.file(algorithm, "pem").to_string_lossy())
            .replace("@JWKS@", &self.file(algorithm, "jwks.json").to_string_lossy());
        let file = self.folder.path().join(name);
        fs::write(&file, text)?;
        Ok(file)
    }

    /// keyholder's short form with every operation of Genesys Cloud as a route, of which one asks for the scopes that
    /// the others ask for.
    fn serve(&self, port: u16, algorithm: Algorithm, wrapper: &[&str]) -> Command {
        let mut command = rig::wrapped(wrapper, &self.keyholder);
        command
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--upstream", &format!("http://127.0.0.1:{}", self.upstream_port)])
            .arg("--jwks")
            .arg(self.file(algorithm, "jwks.json"))
            .args(["--issuer", ISSUER, "--audience", AUDIENCE])
            .args(["--operations", "genesys-scopes"])
            .args(["--require", &format!("GET {PATH}=analytics:reports:read user:read")]);
        command
    }
}
