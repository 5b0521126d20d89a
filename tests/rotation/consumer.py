"""A program that reads its login from Vault itself, keeps it for a while, and calls the platform with it.

It is as simple as such programs are: what it read is used until its time is over, whatever the platform says, and no
call is repeated. A refused login is a failed call. After each login with a document that a rotation wrote it reports
which secret it uses.

Environment: KH_API, KH_VAULT, KH_VAULT_TOKEN, KH_PATH (in the engine `secret`), KH_CACHE (seconds), KH_AGE (how old its
first document counts as, so that programs do not all read at once), KH_NAME; KEYHOLDER_URL, KEYHOLDER_TOKEN_FILE and
KH_PROFILE for its reports. Ends with its standard input; output as in sdk_load.py, with logins and reads.
"""

import datetime
import json
import os
import pathlib
import sys
import threading
import time

import hvac
import requests

PAUSE = 0.1
FIRST = 3
env = os.environ
cache_seconds = float(env["KH_CACHE"])
guard = pathlib.Path(env["KEYHOLDER_TOKEN_FILE"]).read_text(encoding="utf-8").strip()
vault = hvac.Client(url=env["KH_VAULT"], token=env["KH_VAULT_TOKEN"])
http = requests.Session()
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()

document, read_at = None, 0.0
token, renew_at = None, 0.0
told = {"calls": 0, "failures": 0, "logins": 0, "reads": 0, "reports": 0, "examples": []}
began = time.monotonic()


def failed(what):
    told["failures"] += 1
    if len(told["examples"]) < 3:
        told["examples"].append(what)


def current_document():
    global document, read_at
    if document is None or time.monotonic() - read_at >= cache_seconds:
        age = float(env["KH_AGE"]) if document is None else 0.0
        found = vault.secrets.kv.v2.read_secret_version(path=env["KH_PATH"], raise_on_deleted_version=True)
        document, read_at = found["data"]["data"], time.monotonic() - age
        told["reads"] += 1
    return document


def report(marker):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    body = {
        "profile": env["KH_PROFILE"], "consumer": env["KH_NAME"], "fingerprint": marker["fingerprint"],
        "generation": marker["generation"], "last_mint_ok_at": now, "alive_for": int(2 * cache_seconds),
    }
    answer = http.post(
        f"{env['KEYHOLDER_URL']}/v1/pickup", json=body, headers={"X-Keyholder-Token": guard}, timeout=10
    )
    if answer.status_code != 204:
        failed(f"report: {answer.status_code} {answer.text[:300]}")
    told["reports"] += 1


def current_token():
    global token, renew_at
    if time.monotonic() >= renew_at:
        login = current_document()
        answer = http.post(
            f"{env['KH_API']}/oauth/token", data={"grant_type": "client_credentials"},
            auth=(login["client_id"], login["client_secret"]), timeout=10,
        )
        if answer.status_code != 200:
            failed(f"login: {answer.status_code} {answer.text[:300]}")
            return None
        told["logins"] += 1
        token = answer.json()
        renew_at = time.monotonic() + token["expires_in"] / 2
        if "_kh" in login:
            report(login["_kh"])
    return token["access_token"]


while not stop.is_set():
    try:
        told["calls"] += 1
        bearer = current_token()
        if bearer:
            headers = {"Authorization": f"Bearer {bearer}"}
            answer = http.get(f"{env['KH_API']}/api/v2/users?pageSize=1", headers=headers, timeout=10)
            if answer.status_code != 200:
                failed(f"call: {answer.status_code} {answer.text[:300]}")
    except Exception as error:  # the store or the network: the program could not do its work
        failed(f"{type(error).__name__}: {str(error)[:300]}")
    if told["calls"] == FIRST:
        print("started", flush=True)
    stop.wait(PAUSE)
print(json.dumps(told | {"seconds": time.monotonic() - began}), flush=True)
