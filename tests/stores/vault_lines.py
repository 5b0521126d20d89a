"""hvac behind a pipe: one request per line of JSON, one answer per line.

The suite that every secret store must pass is written in Rust; through this it drives the official Python client.
"""

import json
import sys

import hvac

begin = json.loads(sys.stdin.readline())
client = hvac.Client(url=begin["url"], token=begin["token"])
kv = client.secrets.kv.v2
print("{}", flush=True)


def read(request):
    try:
        found = kv.read_secret_version(path=request["key"], raise_on_deleted_version=False)
    except hvac.exceptions.InvalidPath as missing:
        # hvac gives the answer back for deleted versions, not for destroyed ones; their metadata stands in its error
        known = (missing.json or {}).get("data") or {"metadata": {"version": 0}}
        return {"version": known["metadata"]["version"], "data": None}
    return {"version": found["data"]["metadata"]["version"], "data": found["data"]["data"]}


def write(request):
    try:
        made = kv.create_or_update_secret(path=request["key"], secret=request["data"], cas=request["cas"])
    except hvac.exceptions.InvalidRequest as refused:
        if "did not match the current version" not in str(refused):
            raise
        return {"version": None}
    return {"version": made["data"]["version"]}


def destroy(request):
    kv.destroy_secret_versions(path=request["key"], versions=[request["version"]])
    return {}


def list_(request):
    try:
        return {"keys": kv.list_secrets(path=request["folder"])["data"]["keys"]}
    except hvac.exceptions.InvalidPath:
        return {"keys": []}


actions = {"read": read, "write": write, "destroy": destroy, "list": list_}
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps(actions[request["do"]](request)), flush=True)
