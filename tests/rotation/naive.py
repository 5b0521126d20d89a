"""Rotation as scripts do it: make a secret, put it into the store, wait a little, delete the old one.

Environment: KH_API, KH_ADMIN_ID and KH_ADMIN_SECRET, KH_VAULT, KH_VAULT_TOKEN, KH_PATH, KH_SLEEP (seconds); KH_HOW:
`overlap` (a second secret of the client) or `pair` (a second client).
"""

import os
import time

import hvac
import requests

env = os.environ
CLIENTS = f"{env['KH_API']}/api/v2/oauth/clients"
login = requests.post(
    f"{env['KH_API']}/oauth/token", data={"grant_type": "client_credentials"},
    auth=(env["KH_ADMIN_ID"], env["KH_ADMIN_SECRET"]), timeout=10,
)
login.raise_for_status()
http = requests.Session()
http.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
kv = hvac.Client(url=env["KH_VAULT"], token=env["KH_VAULT_TOKEN"]).secrets.kv.v2


def call(method, url, body=None):
    answer = http.request(method, url, json=body, timeout=10)
    assert answer.ok, (method, url, answer.status_code, answer.text)
    return answer.json() if answer.content else None


old = kv.read_secret_version(path=env["KH_PATH"], raise_on_deleted_version=True)["data"]["data"]
client = f"{CLIENTS}/{old['client_id']}"
if env["KH_HOW"] == "overlap":
    before = [secret["id"] for secret in call("GET", f"{client}/secrets")["entities"]]
    made = call("POST", f"{client}/secrets", {})
    new = {"client_id": old["client_id"], "client_secret": made["secret"]}
else:
    whole = call("GET", client)
    wanted = ("name", "authorizedGrantType", "roleDivisions", "accessTokenValiditySeconds")
    made = call("POST", CLIENTS, {name: whole[name] for name in wanted})
    new = {"client_id": made["id"], "client_secret": made["secret"]}
kv.create_or_update_secret(path=env["KH_PATH"], secret=new)
time.sleep(float(env["KH_SLEEP"]))
if env["KH_HOW"] == "overlap":
    for secret in before:
        call("DELETE", f"{client}/secrets/{secret}")
else:
    call("PUT", client, whole | {"state": "inactive"})
    call("DELETE", client)
