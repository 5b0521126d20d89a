"""hvac, the Python client of Vault, against the strict fake: what an administrator sets up and an application does.

Usage: vault.py READY_FILE
"""

import json
import sys
import urllib.request

import hvac
from hvac import exceptions

with open(sys.argv[1], encoding="utf-8") as file:
    ready = json.load(file)
URL = ready["url"]
root = hvac.Client(url=URL, token=ready["root_token"])
kv = root.secrets.kv.v2


def fake(command, **argument):
    """A command to the fake itself."""
    body = json.dumps(argument).encode()
    request = urllib.request.Request(f"{URL}/_fake/{command}", data=body, method="POST")
    urllib.request.urlopen(request).close()


def refused(kind, text, call, *words, **named):
    """The call must be refused as the client's exception `kind`, with `text` in it."""
    try:
        call(*words, **named)
    except kind as error:
        assert text in str(error), f"{text!r} is not in {error}"
        return
    raise AssertionError(f"{call.__name__} was not refused with {kind.__name__}")


def versions():
    for number in range(1, 13):
        made = kv.create_or_update_secret(path="team/acme", secret={"v": str(number)}, cas=number - 1)
        assert made["data"]["version"] == number
    mismatch = "check-and-set parameter did not match the current version"
    refused(exceptions.InvalidRequest, mismatch, kv.create_or_update_secret, "team/acme", {"v": "x"}, cas=3)
    metadata = kv.read_secret_metadata(path="team/acme")["data"]
    assert (metadata["oldest_version"], metadata["current_version"]) == (3, 12), metadata
    refused(exceptions.InvalidPath, "", kv.read_secret_version, "team/acme", version=2, raise_on_deleted_version=True)
    kv.update_metadata(path="team/acme", max_versions=20, cas_required=True, custom_metadata={"owner": "team"})
    required = "check-and-set parameter required for this call"
    refused(exceptions.InvalidRequest, required, kv.create_or_update_secret, "team/acme", {"v": "x"})
    kv.patch(path="team/acme", secret={"more": "2"})
    read = kv.read_secret_version(path="team/acme", raise_on_deleted_version=True)["data"]
    assert read["data"] == {"v": "12", "more": "2"}, read
    assert read["metadata"]["custom_metadata"] == {"owner": "team"}
    assert kv.list_secrets(path="")["data"]["keys"] == ["team/"]


def deleted_versions():
    kv.create_or_update_secret(path="gone", secret={"v": "1"})
    kv.delete_latest_version_of_secret(path="gone")
    refused(exceptions.InvalidPath, "", kv.read_secret_version, "gone", raise_on_deleted_version=True)
    told = kv.read_secret_version(path="gone", raise_on_deleted_version=False)["data"]
    assert told["data"] is None and told["metadata"]["version"] == 1, "a 404 with the metadata as its body"
    kv.undelete_secret_versions(path="gone", versions=[1])
    assert kv.read_secret_version(path="gone", raise_on_deleted_version=True)["data"]["data"] == {"v": "1"}
    kv.destroy_secret_versions(path="gone", versions=[1])
    kv.undelete_secret_versions(path="gone", versions=[1])
    refused(exceptions.InvalidPath, '"destroyed":true', kv.read_secret_version, "gone", raise_on_deleted_version=False)
    kv.delete_metadata_and_all_versions(path="gone")
    refused(exceptions.InvalidPath, "", kv.read_secret_metadata, "gone")


def rights():
    policy = {
        "path": {
            "secret/data/team/*": {"capabilities": ["read", "update"]},
            "secret/metadata/team": {"capabilities": ["list"]},
        }
    }
    root.sys.create_or_update_policy(name="team", policy=json.dumps(policy))
    root.auth.approle.create_or_update_approle(
        "team", token_policies=["team"], token_ttl="20m", token_max_ttl="1h", secret_id_num_uses=1
    )
    role_id = root.auth.approle.read_role_id("team")["data"]["role_id"]
    wrapped = root.auth.approle.generate_secret_id("team", wrap_ttl="60s")["wrap_info"]
    assert wrapped["creation_path"] == "auth/approle/role/team/secret-id", wrapped
    orchestrated = hvac.Client(url=URL, token=wrapped["token"])
    secret_id = orchestrated.sys.unwrap()["data"]["secret_id"]
    refused(exceptions.Forbidden, "", orchestrated.sys.unwrap)

    team = hvac.Client(url=URL)
    auth = team.auth.approle.login(role_id=role_id, secret_id=secret_id)["auth"]
    assert auth["policies"] == ["default", "team"] and auth["lease_duration"] == 1200, auth
    again = hvac.Client(url=URL).auth.approle.login
    refused(exceptions.InvalidRequest, "invalid role or secret ID", again, role_id=role_id, secret_id=secret_id)
    mine = team.secrets.kv.v2
    assert mine.read_secret_version(path="team/acme", raise_on_deleted_version=True)["data"]["data"]["v"] == "12"
    refused(exceptions.Forbidden, "permission denied", mine.create_or_update_secret, "team/new", {"v": "1"})
    refused(exceptions.Forbidden, "permission denied", mine.read_secret_version, "other", raise_on_deleted_version=True)
    assert mine.list_secrets(path="team")["data"]["keys"] == ["acme"]
    can = team.sys.get_capabilities(paths=["secret/data/team/acme"])["data"]
    assert can["capabilities"] == ["read", "update"], can
    fake("clock", shift_seconds=600)
    assert team.auth.token.renew_self()["auth"]["lease_duration"] == 1200
    assert 1190 <= team.auth.token.lookup_self()["data"]["ttl"] <= 1200
    fake("clock", shift_seconds=1201)
    refused(exceptions.Forbidden, "permission denied", team.auth.token.lookup_self)


def workloads():
    body = {"token_policies": ["team"], "token_ttl": 60}
    for method in ("kubernetes", "jwt"):
        root.write_data(f"auth/{method}/role/app", data=body)
        fake("accept_jwt", method=method, role="app", jwt="workload.jwt")
    pod = hvac.Client(url=URL)
    pod.auth.kubernetes.login(role="app", jwt="workload.jwt")
    assert pod.is_authenticated()
    refused(exceptions.Forbidden, "", pod.auth.kubernetes.login, role="app", jwt="other.jwt")
    refused(exceptions.InvalidRequest, "invalid role name", pod.auth.kubernetes.login, role="none", jwt="workload.jwt")
    job = hvac.Client(url=URL)
    job.auth.jwt.jwt_login(role="app", jwt="workload.jwt")
    refused(exceptions.InvalidRequest, "error validating token", job.auth.jwt.jwt_login, role="app", jwt="other.jwt")


def namespaces():
    root.sys.create_namespace("inner")
    inner = hvac.Client(url=URL, token=ready["root_token"], namespace="inner")
    inner.secrets.kv.v2.create_or_update_secret(path="k", secret={"v": "inside"})
    refused(exceptions.InvalidPath, "", kv.read_secret_version, "k", raise_on_deleted_version=True)
    assert inner.secrets.kv.v2.read_secret_version(path="k", raise_on_deleted_version=True)["data"]["data"]["v"] == "inside"


def states():
    assert root.sys.is_initialized() and not root.sys.is_sealed()
    assert root.sys.read_health_status(method="GET")["standby"] is False
    fake("node", node="standby")
    assert root.sys.read_health_status(method="GET").status_code == 429
    fake("node", node="standby", leader="")
    refused(exceptions.VaultDown, "no active Vault instance found", kv.read_secret_metadata, "team/acme")
    fake("node", node="active")
    fake("seal")
    assert root.sys.is_sealed()
    refused(exceptions.VaultDown, "Vault is sealed", kv.read_secret_metadata, "team/acme")
    fake("unseal")
    fake("faults", fault={"throttle": {"retry_after_seconds": 1}})
    refused(exceptions.RateLimitExceeded, "quota exceeded", kv.read_secret_metadata, "team/acme")
    fake("upgrading", upgrading=True)
    refused(exceptions.InvalidRequest, "Upgrading from non-versioned", kv.read_secret_metadata, "team/acme")
    fake("upgrading", upgrading=False)


for check in (versions, deleted_versions, rights, workloads, namespaces, states):
    check()
    print(f"  {check.__name__.replace('_', ' ')}: as hvac expects")
