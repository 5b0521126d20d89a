"""NICE CXone through keyholder with an ordinary OAuth client library (Authlib), as an integration would use it.

Environment: KH_URL, KH_CLIENT_ID, KH_CLIENT_SECRET (issued by keyholder), KH_TENANT; for https the private CA comes
in by REQUESTS_CA_BUNDLE.
"""

import os
import sys

import requests
from authlib.integrations.requests_client import OAuth2Session

ORIGIN = os.environ["KH_URL"]
CLIENT, SECRET = os.environ["KH_CLIENT_ID"], os.environ["KH_CLIENT_SECRET"]
steps = 0


def step(text):
    global steps
    steps += 1
    print(f"  cxone  {steps:2}. {text}", flush=True)


discovery = requests.get(f"{ORIGIN}/.well-known/openid-configuration", timeout=10).json()
for name in ("issuer", "token_endpoint", "jwks_uri", "authorization_endpoint", "userinfo_endpoint"):
    assert discovery[name].startswith(ORIGIN), (name, discovery[name])
step("discovery names only keyholder")

session = OAuth2Session(CLIENT, SECRET, token_endpoint_auth_method="client_secret_basic")
token = session.fetch_token(discovery["token_endpoint"], grant_type="password", username=CLIENT, password=SECRET)
assert token["access_token"].startswith("kht_") and token["token_type"].lower() == "bearer", token.keys()
step("logged in by the global flow")

tenant = requests.get(
    f"{ORIGIN}/.well-known/cxone-configuration", params={"tenantId": os.environ["KH_TENANT"]}, timeout=10
).json()
for name in ("auth_endpoint", "api_endpoint"):
    assert tenant[name].startswith(ORIGIN), (name, tenant[name])
step("the tenant's endpoints are keyholder's")

base = f"{tenant['api_endpoint']}/inContactAPI/services/v30.0"
session.headers["Accept"] = "application/json"
agents = session.get(f"{base}/agents", params={"top": 2, "skip": 0})
assert agents.status_code == 200, (agents.status_code, agents.text)
step("listed agents")

regional = requests.post(
    f"{tenant['auth_endpoint']}/authentication/v1/token/access-key",
    json={"accessKeyId": CLIENT, "accessKeySecret": SECRET}, timeout=10,
)
assert regional.status_code == 200 and regional.json()["access_token"].startswith("kht_"), regional.text
step("logged in by the regional flow")

keys = session.get(f"{tenant['auth_endpoint']}/access-key-management/v1/access-keys")
assert keys.status_code == 200 and "accessKeySecret" not in keys.text, (keys.status_code, keys.text)
step("listed access keys")
made = session.post(f"{tenant['auth_endpoint']}/access-key-management/v1/access-keys", json={})
assert made.status_code == 403, (made.status_code, made.text)
step("making an access key is refused")

wrong = requests.post(
    f"{tenant['auth_endpoint']}/authentication/v1/token/access-key",
    json={"accessKeyId": CLIENT, "accessKeySecret": SECRET[:-1] + "_"}, timeout=10,
)
assert wrong.status_code in (400, 401) and "error" in wrong.json(), (wrong.status_code, wrong.text)
step("a wrong secret is refused in the platform's shape")
missing = session.get(f"{base}/agents/999999999")
assert missing.status_code == 404, missing.status_code
step("an unknown agent is the platform's own 404")
print(f"cxone: {steps} steps held", flush=True)
sys.exit(0)
