"""moto's AWS with its signature and rights checks on, for tests of the adapter.

Prints one line of JSON (address, access keys) when it listens, and ends with its standard input. Three identities:
`full` may do everything with Secrets Manager and Lambda, `guide` what the policy in docs/guide/aws.md allows (at any
secret: moto does not say which secret a request is about), `reader` may only read secrets. Further requests: GET
/_changes tells how many requests changed a secret.
"""

import io
import json
import os
import pathlib
import sys
import threading
import zipfile

# The requests below that set the identities up; all later ones are checked.
SET_UP = 11
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(SET_UP)

import boto3  # noqa: E402
from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: E402
from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: E402

READS = ("GetSecretValue", "DescribeSecret", "ListSecrets", "ListSecretVersionIds")
REGION = "eu-central-1"


GUIDE = pathlib.Path(__file__).parents[2] / "docs/guide/aws.md"


class Counting:
    """Counts the requests that changed a secret."""

    def __init__(self, app):
        self.app, self.changes, self.lock = app, 0, threading.Lock()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/_changes":
            told = str(self.changes).encode()
            start_response("200 OK", [("content-type", "text/plain"), ("content-length", str(len(told)))])
            return [told]
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        operation = target.removeprefix("secretsmanager.")

        def counted(status, headers, exc_info=None):
            if operation != target and operation not in READS and status.startswith("2"):
                with self.lock:
                    self.changes += 1
            return start_response(status, headers, exc_info)

        return self.app(environ, counted)


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


def statement(*actions):
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}
    )


def guide():
    """The actions of the policy that the guide shows."""
    policy = json.loads(GUIDE.read_text(encoding="utf-8").split("```json")[1].split("```")[0])
    allowed = []
    for part in policy["Statement"]:
        assert part["Effect"] == "Allow", part
        actions = part["Action"]
        allowed += [actions] if isinstance(actions, str) else actions
    return statement(*sorted(set(allowed)))


def set_up(url):
    """Exactly SET_UP requests."""

    def client(service):
        return boto3.client(
            service, endpoint_url=url, region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x"
        )

    iam, keys = client("iam"), {}
    policies = {
        "full": statement("secretsmanager:*", "lambda:*"),
        "guide": guide(),
        "reader": statement(*(f"secretsmanager:{read}" for read in READS)),
    }
    for name, policy in policies.items():
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys[name] = [key["AccessKeyId"], key["SecretAccessKey"]]
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    role = iam.create_role(RoleName="lambda", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("main.py", "def handler(event, context):\n    return 1\n")
    client("lambda").create_function(
        FunctionName="orders",
        Description="takes orders",
        Runtime="python3.13",
        Role=role,
        Handler="main.handler",
        Code={"ZipFile": code.getvalue()},
        Environment={"Variables": {"SECRET_NAME": "kv/acme"}},
    )
    return keys


def main():
    app = Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    print(json.dumps({"url": url, "region": REGION, **set_up(url)}), flush=True)
    sys.stdin.read()


main()
