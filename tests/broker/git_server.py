"""A git server over HTTP that wants a platform's token: git's own http-backend behind a check of `Authorization`.

Arguments: folder of bare repositories, SHA-256 of the token in hex, ready file. The token is taken as `Bearer`, or as
the password of `Basic`, which is all that git before 2.46 can send. SIGUSR1 makes it refuse every token from then on.
Standard output says what was shown, never a token.
"""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT, DIGEST, READY = sys.argv[1:4]
refusing = False


def refuse_all(*_):
    global refusing
    refusing = True
    print("refuses all", flush=True)


def shown(value):
    """The scheme and the secret of an Authorization value."""
    scheme, _, rest = (value or "").partition(" ")
    if scheme.lower() == "bearer":
        return "bearer", rest
    if scheme.lower() == "basic":
        return "basic", base64.b64decode(rest).decode().partition(":")[2]
    return "nothing", ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(body)

    def answer(self, body):
        scheme, secret = shown(self.headers.get("Authorization"))
        good = hashlib.sha256(secret.encode()).hexdigest() == DIGEST and not refusing
        print(("took " if good else "refused ") + scheme, flush=True)
        if not good:
            return self.reply(401, [("WWW-Authenticate", 'Bearer realm="t"'), ("WWW-Authenticate", 'Basic realm="t"')], b"")
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": ROOT, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "t",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=environment, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if line]
        status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
        self.reply(status, [field for field in fields if field[0] != "Status"], content)

    def reply(self, status, fields, content):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


signal.signal(signal.SIGUSR1, refuse_all)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(READY + ".draft", "w", encoding="utf-8") as draft:
    json.dump({"url": f"http://127.0.0.1:{server.server_port}"}, draft)
os.rename(READY + ".draft", READY)
server.serve_forever()
