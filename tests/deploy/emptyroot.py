"""An empty root in which only the static binary runs, as a container runtime would run it, and a platform to log in at.

Shared by image.py and manifests.py. Needs root, for namespaces, and bubblewrap, openssl and iproute2.
"""

import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading

USER = 65532


def own_network():
    """Goes on in a network of its own: every port is free there, and nothing can leave."""
    if os.environ.get("OWN_NETWORK") != "yes":
        os.environ["OWN_NETWORK"] = "yes"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Box:
    """The image as a container runtime shows it: what is mounted is all that is not the image's."""

    def __init__(self, root, mounts, environment):
        self.words = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"]
        # the program is process 1, as in a container: signals come to it alone
        self.words += ["--as-pid-1", "--uid", str(USER), "--gid", str(USER), "--cap-drop", "ALL", "--die-with-parent", "--new-session"]
        self.words += ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--clearenv", "--chdir", "/"]
        for how, source, place in mounts:
            self.words += [how, str(source), place]
        for name, value in environment.items():
            self.words += ["--setenv", name, value]

    def command(self, *words):
        # the program starts as an ordinary user outside as well, so that no right of root's is left
        drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        return [*drop, *self.words, "/usr/bin/keyholder", *words]

    def run(self, *words, code=0, **options):
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=120, **options)
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout


def inner_process(outer):
    """The program below setpriv and bwrap: the last one of the chain of children."""
    pid = outer.pid
    while children := pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


def platform(folder, names, port, seen):
    """A token endpoint over TLS on loopback, with a certificate for these names; remembers those that it is called by."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    named = "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)
    authority = ["-subj", "/CN=authority", "-keyout", folder / "ca-key.pem", "-out", folder / "ca.pem"]
    leaf = ["-subj", "/CN=platform", "-addext", named, "-addext", "basicConstraints=critical,CA:FALSE"]
    leaf += ["-CA", folder / "ca.pem", "-CAkey", folder / "ca-key.pem"]
    leaf += ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    for words in (authority, leaf):
        subprocess.run([*new, *words], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    listener = socket.create_server(("127.0.0.1", port))
    body = json.dumps({"access_token": "of-the-platform", "token_type": "Bearer", "expires_in": 3600}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"

    def answer(stream):
        try:
            with context.wrap_socket(stream, server_side=True) as secured:
                asked = b""
                while b"client_credentials" not in asked:
                    part = secured.recv(4096)
                    if not part:
                        return
                    asked += part
                hosts = [line for line in asked.split(b"\r\n") if line.lower().startswith(b"host:")]
                seen.add(hosts[0].split(b":")[1].strip().decode())
                secured.sendall(head.encode() + body)
        except OSError:
            return

    def serve():
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=answer, args=(stream,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
