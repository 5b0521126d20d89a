"""Tokens from a local keyholder broker, over loopback or its unix socket."""

import hashlib
import http.client
import json
import os
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request


def _ask(method, path, body=None):
    url, headers = os.environ["KEYHOLDER_URL"], {"Host": "localhost"}
    if token_file := os.environ.get("KEYHOLDER_TOKEN_FILE"):
        with open(token_file, encoding="ascii") as file:
            headers["X-Keyholder-Token"] = file.read().strip()
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc or "localhost", timeout=60)
    if url.startswith("unix:"):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(url[5:])
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"keyholder: {json.loads(content)['detail']}")
    return json.loads(content) if content else None


def get(profile, min_ttl=60):
    """The token and where it is good for: `access_token`, `api_base`, `expires_in` and more."""
    return _ask("GET", f"/v1/token/{urllib.parse.quote(profile, safe='')}?min_ttl={min_ttl}")


def report(profile, access_token):
    """The platform refused this token. Harmless when it is an old one."""
    digest = hashlib.sha256(access_token.encode()).hexdigest()
    _ask("POST", f"/v1/token/{urllib.parse.quote(profile, safe='')}/invalidate", json.dumps({"sha256": digest}))


def call(profile, path):
    """GET a path of the platform's API; a refused token is reported once."""
    for last in (False, True):
        token = get(profile)
        request = urllib.request.Request(token["api_base"] + path)
        request.add_header("Authorization", "Bearer " + token["access_token"])
        try:
            return urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            if last or error.code != 401 or b"ip.not.authorized" in error.read():
                raise
            report(profile, token["access_token"])


def main():
    """Calls the path of the first argument, and again for each line of standard input."""
    print(call(os.environ["KEYHOLDER_PROFILE"], sys.argv[1]).status, flush=True)
    for _ in sys.stdin:
        print(call(os.environ["KEYHOLDER_PROFILE"], sys.argv[1]).status, flush=True)


if __name__ == "__main__":
    main()
