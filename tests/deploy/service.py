"""Runs the unit's commands as systemd would: its user, its variables, its credential, its notifications.

    service.py UNIT FOLDER-OF-THE-CREDENTIAL

Asserts that keyholder says when it is ready, reloading and stopping, answers its health check, and ends with 0; and that
a bad configuration ends it with a status after which systemd does not start it again. What systemd enforces itself (the
sandbox) is not imitated.
"""

import os
import pathlib
import pwd
import shlex
import signal
import socket
import subprocess
import sys
import tempfile

UNIT, KEYS = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])


def settings(name):
    lines = UNIT.read_text().splitlines()
    return [line.split("=", 1)[1] for line in lines if line.startswith(name + "=")]


def one(name):
    (value,) = settings(name)
    return value


# the default of gateway.limits.drain, and what keyholder needs after it: notices 5 s, background work 8 s, the security
# log 3 s, telemetry 3 s, the log 2 s
DRAIN, END = 20, 25


def check_settings():
    assert int(one("TimeoutStopSec").removesuffix("s")) >= DRAIN + END
    # systemd restarts a unit whose ExecStartPre fails, whatever its status: RestartPreventExitStatus is the main process's
    assert one("Restart") == "on-failure" and not settings("ExecStartPre")


def refuses(as_user, folder):
    """A mistake in the configuration: the main process ends with a status that is not restarted."""
    bad = folder / "bad.toml"
    bad.write_text("[gateway]\nno_such_key = 1\n")
    bad.chmod(0o444)
    as_user = as_user | {"env": as_user["env"] | {"KEYHOLDER_CONFIG": str(bad)}}
    done = subprocess.run(shlex.split(one("ExecStart")), capture_output=True, text=True, timeout=60, **as_user)
    assert str(done.returncode) in one("RestartPreventExitStatus").split(), done
    assert "no_such_key" in done.stderr, done


class Notifications:
    """The datagram socket that NOTIFY_SOCKET names."""

    def __init__(self, folder, owner):
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        os.chown(self.path, owner.pw_uid, owner.pw_gid)
        self.socket.settimeout(60)

    def wait_for(self, word):
        while True:
            said = self.socket.recv(4096).decode().splitlines()
            if word in said:
                return said


def main():
    owner = pwd.getpwnam(one("User"))
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    mounted = folder / "credentials"
    mounted.mkdir()
    for credential in settings("LoadCredential"):
        name, source = credential.split(":")
        assert pathlib.Path(source).parent == KEYS, source
        copy = mounted / name
        copy.write_bytes(pathlib.Path(source).read_bytes())
        # as systemd shows an access list: root's, with the mask where the group's bits are
        copy.chmod(0o440)
        os.chown(copy, 0, owner.pw_gid)
    told = Notifications(folder, owner)
    environment = dict(line.split("=", 1) for line in settings("Environment"))
    environment |= {"CREDENTIALS_DIRECTORY": str(mounted), "NOTIFY_SOCKET": str(told.path), "USER": owner.pw_name}
    as_user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [], "env": environment, "cwd": "/"}

    check_settings()
    refuses(as_user, folder)
    served = subprocess.Popen(shlex.split(one("ExecStart")), **as_user)
    try:
        told.wait_for("READY=1")
        for words in (["healthcheck"], ["healthcheck", "--live"]):
            subprocess.run(["keyholder", *words], check=True, **as_user)
        served.send_signal(signal.SIGHUP)
        told.wait_for("RELOADING=1")
        told.wait_for("READY=1")
        served.send_signal(signal.SIGTERM)
        told.wait_for("STOPPING=1")
        assert served.wait(timeout=60) == 0, served.returncode
    finally:
        served.kill()


main()
