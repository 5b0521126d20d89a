"""Clients from PyPI that read the broker's tokens: boto3 and the AWS command line by `credential_process`, and the official
Genesys Cloud SDK through the broker's proxy, unmodified.

Environment: KH_BINARY, KEYHOLDER_URL and KEYHOLDER_TOKEN_FILE of the broker, KH_PROFILE, KH_API (the platform), and
KH_SECRET, the platform's secret, which must not be in anything that a client gets.
"""

import http.server
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.request

import boto3
import PureCloudPlatformClientV2 as pc

BINARY, PROFILE, API, SECRET = (os.environ[name] for name in ("KH_BINARY", "KH_PROFILE", "KH_API", "KH_SECRET"))
seen = []


def step(text):
    print(f"  broker {len(seen)}. {text}", flush=True)


def keep(text):
    """What a client got is searched for the platform's secret in the end."""
    seen.append(text)
    return text


def users(token):
    request = urllib.request.Request(API + "/api/v2/users?pageSize=1", headers={"Authorization": "Bearer " + token})
    with urllib.request.urlopen(request) as answer:
        return answer.status


def with_boto3():
    credentials = boto3.Session(profile_name="platform").get_credentials()
    assert credentials.method == "custom-process", credentials.method
    assert not credentials.refresh_needed(), "a fresh token is not due"
    frozen = credentials.get_frozen_credentials()
    assert users(keep(frozen.token)) == 200
    assert SECRET not in keep(frozen.access_key + frozen.secret_key)
    step("boto3 loads the token by credential_process, and the platform takes it")
    return frozen.token


class Listener(http.server.BaseHTTPRequestHandler):
    """Stands where an AWS service would, and keeps the session token that it is sent."""

    tokens = []

    def do_POST(self):
        Listener.tokens.append(self.headers.get("X-Amz-Security-Token"))
        self.send_error(403)

    def log_message(self, *_):
        pass


def with_the_command_line(token):
    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    aws = pathlib.Path(sys.executable).with_name("aws")
    place = f"http://127.0.0.1:{server.server_port}"
    words = [sys.executable, str(aws), "--profile", "platform", "sts", "get-caller-identity", "--endpoint-url", place]
    told = subprocess.run(words, check=False, capture_output=True, text=True)
    assert Listener.tokens and set(Listener.tokens) == {token}, "one token for all callers"
    assert token not in keep(told.stdout + told.stderr)
    step("the AWS command line loads the same token, and sends it as its session token")


def with_the_sdk():
    guard = pathlib.Path(os.environ["KEYHOLDER_TOKEN_FILE"]).read_text(encoding="ascii").strip()
    pc.configuration.host = f"{os.environ['KEYHOLDER_URL']}/{PROFILE}"
    pc.configuration.access_token = guard
    found = pc.UsersApi().get_users(page_size=2)
    assert len(found.entities) == 2, found
    body = {"name": "made through the broker", "type": "official", "rulesVisible": True, "visibility": "public"}
    group = pc.GroupsApi().post_groups(body)
    assert group.name == "made through the broker"
    keep(str(found) + str(group))
    step("the official SDK works through the proxy with a base address and the guard token")


with tempfile.TemporaryDirectory() as folder:
    config = pathlib.Path(folder) / "config"
    helper = f"{BINARY} credential-helper --format aws --profile {PROFILE} --min-ttl 20m"
    config.write_text(f"[profile platform]\nregion = eu-central-1\ncredential_process = {helper}\n", encoding="utf-8")
    os.environ["AWS_CONFIG_FILE"] = str(config)
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(config.with_name("none"))
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    with_the_command_line(with_boto3())
    with_the_sdk()
assert seen and not any(SECRET in text for text in seen), "a client holds the platform's secret"
