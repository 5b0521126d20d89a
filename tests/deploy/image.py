"""Looks into the image and runs it: an empty read-only root, an ordinary user, no capability, a state volume.

    image.py ARCHIVE

The program must tell its version, check its configuration, keep secrets in the volume, serve, answer its own health
check, and find hosts by name, by /etc/hosts and by DNS, though the root holds no resolver library. A small platform over
TLS and a small DNS server, both here, have the last word: they see the names and the login. Needs root, for namespaces.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

from emptyroot import USER, Box, inner_process, own_network, platform

HOSTS_NAME, DNS_NAME = "by-hosts.test", "by-dns.test"
CONFIG = """
[gateway]
listen = ["127.0.0.1:8080"]
[store]
key_credential = "store.key"
"""
PLATFORM = """
[platform.{name}]
kind = "oauth2"
token_url = "https://{host}:8443/token"
api_url = "https://{host}:8443"
extra_ca = "ca.pem"
[credential.{name}]
platform = "{name}"
secret = "store:{name}"
"""


def unpack(archive, root):
    """The image's configuration, with its files in `root`."""
    with tarfile.open(archive) as outer:
        (manifest,) = json.load(outer.extractfile("manifest.json"))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                inner.extractall(root, numeric_owner=True)
        return json.load(outer.extractfile(manifest["Config"]))["config"]


def check_image(config, root):
    assert config["User"] == f"{USER}:{USER}", config["User"]
    assert config["Entrypoint"] == ["/usr/bin/keyholder"] and config["Cmd"] == ["serve"], config
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/bin/keyholder", "healthcheck"], config["Healthcheck"]
    assert list(config["Volumes"]) == ["/var/lib/keyholder"], config["Volumes"]
    assert not any("secret" in line.lower() or "token" in line.lower() for line in config["Env"]), config["Env"]
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())
    assert files == ["etc/ssl/certs/ca-certificates.crt", "usr/bin/keyholder"], files
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        assert not mode & 0o022 and not mode & 0o7000, f"{path} has mode {mode:o}"
    state = (root / "var/lib/keyholder").stat()
    assert (state.st_uid, state.st_mode & 0o777) == (USER, 0o700), state
    linked = subprocess.run(["ldd", root / "usr/bin/keyholder"], capture_output=True, text=True)
    assert "statically linked" in linked.stdout + linked.stderr, linked


def dns_server(seen):
    """Answers 127.0.0.1 to every question for an address (RFC 1035), and remembers the names."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve():
        while True:
            question, peer = server.recvfrom(512)
            labels, at = [], 12
            while question[at]:
                labels.append(question[at + 1 : at + 1 + question[at]].decode())
                at += 1 + question[at]
            kind = struct.unpack(">H", question[at + 1 : at + 3])[0]
            seen.add(".".join(labels).lower())
            answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01" if kind == 1 else b""
            head = question[:2] + b"\x81\x80\x00\x01" + struct.pack(">H", 1 if answer else 0) + b"\x00\x00\x00\x00"
            server.sendto(head + question[12 : at + 5] + answer, peer)

    threading.Thread(target=serve, daemon=True).start()


def main(archive):
    own_network()
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        check(pathlib.Path(archive), folder)
    finally:
        shutil.rmtree(folder)


def check(archive, folder):
    root, mounted = folder / "root", folder / "mounted"
    root.mkdir()
    mounted.mkdir()
    image = unpack(archive, root)
    check_image(image, root)

    asked, called = set(), set()
    dns_server(asked)
    platform(mounted, [HOSTS_NAME, DNS_NAME], 8443, called)
    (mounted / "keyholder.toml").write_text(
        CONFIG + PLATFORM.format(name="hosts", host=HOSTS_NAME) + PLATFORM.format(name="dns", host=DNS_NAME)
    )
    (mounted / "hosts").write_text(f"127.0.0.1 localhost {HOSTS_NAME}\n")
    (mounted / "resolv.conf").write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:5\n")
    (mounted / "store.key").write_text("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY=\n")
    for file in mounted.iterdir():
        os.chown(file, 0, USER)
        file.chmod(0o440)
    state = folder / "volume"
    state.mkdir()
    os.chown(state, USER, USER)
    state.chmod(0o700)
    # a container runtime makes the places that it mounts to; nothing else of the root may be written
    for place in ("etc/keyholder", "run/secrets/keyholder", "proc", "dev"):
        (root / place).mkdir(parents=True, exist_ok=True)
    for place in ("etc/keyholder/keyholder.toml", "etc/keyholder/ca.pem", "etc/hosts", "etc/resolv.conf"):
        (root / place).touch()
    (root / "run/secrets/keyholder/store.key").touch()
    mounts = [("--bind", state, "/var/lib/keyholder")]
    for name, place in (
        ("keyholder.toml", "/etc/keyholder/keyholder.toml"),
        ("ca.pem", "/etc/keyholder/ca.pem"),
        ("hosts", "/etc/hosts"),
        ("resolv.conf", "/etc/resolv.conf"),
        ("store.key", "/run/secrets/keyholder/store.key"),
    ):
        mounts.append(("--ro-bind", mounted / name, place))
    environment = dict(line.split("=", 1) for line in image["Env"])
    environment["CREDENTIALS_DIRECTORY"] = "/run/secrets/keyholder"
    box = Box(root, mounts, environment)

    assert box.run("version").startswith("keyholder ")
    box.run("check", "--syntax")
    for name in ("hosts", "dns"):
        box.run("secret", "set", name, "--client-id", "an-id", input="a-secret\n")
    box.run("check")
    box.run("healthcheck", code=3)
    served = subprocess.Popen(box.command("serve"), stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"))
    try:
        for _ in range(600):
            answered = subprocess.run(box.command("healthcheck"), capture_output=True).returncode
            if answered == 0:
                break
            assert served.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        assert answered == 0, (folder / "log").read_text()
        for name in ("hosts", "dns"):
            assert box.run("token", "get", name).strip() == "of-the-platform"
        box.run("healthcheck")
        os.kill(inner_process(served), signal.SIGTERM)
        assert served.wait(timeout=60) == 0, (folder / "log").read_text()
    finally:
        served.kill()
    assert called == {HOSTS_NAME, DNS_NAME}, called
    assert DNS_NAME in asked and HOSTS_NAME not in asked, asked
    assert (state / "secrets.db").exists() and not (state / "store.key").exists()
    print(f"  found {HOSTS_NAME} by /etc/hosts and {DNS_NAME} by DNS, in a root of {len(image['Env'])} variables and 2 files")


main(sys.argv[1])
