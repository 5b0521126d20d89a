//! The Debian package: binary, units, man pages, completions, documents, in one folder tree that `dpkg-deb` packs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{sbom, source_date_epoch, version};
use crate::{process, root};

/// Files that go in as they are: below `deploy`, place in the package, mode.
const FILES: &[(&str, &str, u32)] = &[
    ("deb/keyholder-as-service", "usr/sbin/keyholder-as-service", 0o755),
    ("deb/keyholder.toml", "etc/keyholder/keyholder.toml", 0o644),
    ("systemd/keyholder.service", "lib/systemd/system/keyholder.service", 0o644),
    ("systemd/keyholder-gateway.socket", "lib/systemd/system/keyholder-gateway.socket", 0o644),
    ("systemd/keyholder-gateway-tls.socket", "lib/systemd/system/keyholder-gateway-tls.socket", 0o644),
    ("systemd/keyholder-broker.socket", "lib/systemd/system/keyholder-broker.socket", 0o644),
    ("systemd/notify-reload.conf", "usr/share/doc/keyholder/examples/notify-reload.conf", 0o644),
    ("systemd/keyholder.sysusers", "usr/lib/sysusers.d/keyholder.conf", 0o644),
    ("systemd/keyholder.tmpfiles", "usr/lib/tmpfiles.d/keyholder.conf", 0o644),
    ("systemd/keyholder.logrotate", "etc/logrotate.d/keyholder", 0o644),
    ("deb/lintian-overrides", "usr/share/lintian/overrides/keyholder", 0o644),
];

/// Documents of the repository that go in: place there; they keep their names below `usr/share/doc/keyholder`.
const DOCUMENTS: &[&str] =
    &["README.md", "SECURITY.md", "docs/guide/install.md", "docs/guide/operations.md", "docs/guide/secret-store.md"];

/// Builds the package from a binary and its bill of materials; answers its path in `folder`.
pub fn build(binary: &Path, materials: &Path, folder: &Path) -> Result<PathBuf> {
    let version = version()?;
    let tree = folder.join("deb-tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let doc = tree.join("usr/share/doc/keyholder");
    fs::create_dir_all(&doc)?;
    put(&tree, "usr/bin/keyholder", &fs::read(binary)?, 0o755)?;
    process::run(
        Command::new("strip")
            .args(["--strip-unneeded", "--remove-section=.comment"])
            .arg(tree.join("usr/bin/keyholder")),
    )?;
    let deploy = root().join("deploy");
    for (from, to, mode) in FILES {
        put(&tree, to, &fs::read(deploy.join(from)).with_context(|| format!("deploy/{from}"))?, *mode)?;
    }
    for document in DOCUMENTS {
        let name = Path::new(document).file_name().context("no name")?;
        put(
            &tree,
            &format!("usr/share/doc/keyholder/{}", name.to_string_lossy()),
            &fs::read(root().join(document))?,
            0o644,
        )?;
    }
    generated(binary, &tree)?;
    fs::copy(materials, doc.join(sbom::NAME))?;
    put(&tree, "usr/share/doc/keyholder/copyright", copyright()?.as_bytes(), 0o644)?;
    put(&tree, "usr/share/doc/keyholder/changelog", changelog(&version)?.as_bytes(), 0o644)?;
    for page in ["usr/share/doc/keyholder/changelog", "usr/share/man/man8/keyholder-as-service.8"] {
        compress(&tree.join(page))?;
    }
    control(&tree, &version)?;
    let package = folder.join(format!("keyholder_{version}_amd64.deb"));
    process::run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--build"])
            .arg(&tree)
            .arg(&package)
            .env("SOURCE_DATE_EPOCH", source_date_epoch("HEAD")?)
            .stdout(std::process::Stdio::null()),
    )?;
    fs::remove_dir_all(&tree)?;
    Ok(package)
}

/// What the binary itself writes: man pages and completions.
fn generated(binary: &Path, tree: &Path) -> Result<()> {
    let man = tree.join("usr/share/man/man1");
    fs::create_dir_all(&man)?;
    process::run(
        Command::new(binary).args(["man", "--all"]).arg(&man).env_clear().stdout(std::process::Stdio::null()),
    )?;
    let mut pages: Vec<PathBuf> =
        fs::read_dir(&man)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    pages.sort();
    for page in pages {
        compress(&page)?;
    }
    put(
        tree,
        "usr/share/man/man8/keyholder-as-service.8",
        &fs::read(root().join("deploy/deb/keyholder-as-service.8"))?,
        0o644,
    )?;
    for (shell, place) in [
        ("bash", "usr/share/bash-completion/completions/keyholder"),
        ("zsh", "usr/share/zsh/vendor-completions/_keyholder"),
        ("fish", "usr/share/fish/vendor_completions.d/keyholder.fish"),
    ] {
        let script = process::output(Command::new(binary).args(["completions", shell]).env_clear())?;
        put(tree, place, script.as_bytes(), 0o644)?;
    }
    Ok(())
}

fn put(tree: &Path, place: &str, content: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(place);
    fs::create_dir_all(path.parent().context("no folder")?)?;
    fs::write(&path, content)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

/// Without name and time, so that the same page gives the same bytes.
fn compress(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    process::run(Command::new("gzip").args(["-9", "--no-name"]).arg(path))
}

fn copyright() -> Result<String> {
    let text = fs::read_to_string(root().join("deploy/deb/copyright"))?;
    let licence = fs::read_to_string(root().join("LICENSE-MIT"))?;
    let lines = licence.lines().skip(1).skip_while(|line| line.is_empty());
    let indented: Vec<String> =
        lines.map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") }).collect();
    Ok(text.replace("@MIT@", &indented.join("\n")))
}

fn changelog(version: &str) -> Result<String> {
    let at = format!("@{}", source_date_epoch("HEAD")?);
    let date = process::output(Command::new("date").args(["--utc", "--date", &at, "-R"]))?;
    Ok(format!(
        "keyholder ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md of the sources.\n\n \
         -- The keyholder developers <keyholder@localhost.invalid>  {date}"
    ))
}

/// `DEBIAN/`: the control file, the maintainer scripts, the list of configuration files and checksums.
fn control(tree: &Path, version: &str) -> Result<()> {
    let size =
        process::output(Command::new("du").args(["--summarize", "--apparent-size", "--block-size=1024"]).arg(tree))?;
    let deb = root().join("deploy/deb");
    let text = fs::read_to_string(deb.join("control"))?
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", "amd64")
        .replace("@SIZE@", size.split_whitespace().next().unwrap_or("0"));
    let sums = process::output(
        Command::new("sh")
            .current_dir(tree)
            .args(["-c", "find etc lib usr -type f -print0 | sort -z | xargs -0 md5sum"]),
    )?;
    put(tree, "DEBIAN/control", text.as_bytes(), 0o644)?;
    put(tree, "DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
    put(tree, "DEBIAN/conffiles", b"/etc/keyholder/keyholder.toml\n/etc/logrotate.d/keyholder\n", 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        put(tree, &format!("DEBIAN/{script}"), &fs::read(deb.join(script))?, 0o755)?;
    }
    Ok(())
}
