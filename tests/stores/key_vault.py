"""The official Python clients of Key Vault and Entra ID against the strict fake.

Usage: key_vault.py READY_FILE
"""

import json
import os
import socket
import ssl
import sys
import tempfile
import time
import urllib.request

with open(sys.argv[1], encoding="utf-8") as file:
    ready = json.load(file)
PORT = int(ready["url"].rsplit(":", 1)[1])

# Names are the real ones, as far as the certificate; they lead to this machine.
known = socket.getaddrinfo
HERE = {ready["vault_host"], ready["login_host"]}
socket.getaddrinfo = lambda host, *rest, **named: known("127.0.0.1" if host in HERE else host, *rest, **named)

folder = tempfile.TemporaryDirectory()
CA = os.path.join(folder.name, "ca.pem")
with open(CA, "w", encoding="utf-8") as file:
    file.write(ready["ca_pem"])
os.environ["REQUESTS_CA_BUNDLE"] = CA

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import ClientAssertionCredential, ClientSecretCredential, WorkloadIdentityCredential
from azure.keyvault.secrets import SecretClient

AUTHORITY = {"authority": f"https://{ready['login_host']}:{PORT}", "disable_instance_discovery": True}
credential = ClientSecretCredential(ready["tenant"], ready["client_id"], ready["client_secret"], **AUTHORITY)
VAULT = f"https://{ready['vault_host']}:{PORT}"


def client(using=credential, **more):
    # The client's check that the challenge fits the vault's domain takes the port for a part of the domain.
    return SecretClient(VAULT, using, verify_challenge_resource=False, **more)


vault = client(retry_total=0)


def fake(command, **argument):
    """A command to the fake itself."""
    body = json.dumps(argument).encode()
    request = urllib.request.Request(f"{ready['url']}/_fake/{command}", data=body, method="POST")
    urllib.request.urlopen(request, context=ssl.create_default_context(cafile=CA)).close()


def refused(kind, text, call, *words, **named):
    """The call must be refused as the client's exception `kind`, with `text` in it."""
    try:
        call(*words, **named)
    except kind as error:
        assert text in str(error), f"{text!r} is not in {error}"
        return error
    raise AssertionError(f"the call was not refused with {kind.__name__}")


def versions():
    made = [vault.set_secret("acme", f"value {number}", tags={"kh-write": str(number)}) for number in range(30)]
    assert vault.get_secret("acme").value == "value 29"
    assert vault.get_secret("acme", made[3].properties.version).value == "value 3"
    listed = list(vault.list_properties_of_secret_versions("acme"))
    assert len(listed) == 30, "two pages, followed by the client"
    assert {item.tags["kh-write"] for item in listed} == {str(number) for number in range(30)}
    assert {item.version for item in listed} == {one.properties.version for one in made}
    changed = vault.update_secret_properties("acme", made[3].properties.version, tags={"seen": "yes"})
    assert changed.tags == {"seen": "yes"} and changed.enabled
    refused(ResourceNotFoundError, "SecretNotFound", vault.get_secret, "nothing")
    refused(HttpResponseError, "BadParameter", vault.set_secret, "large", "x" * 25_601)
    vault.set_secret("large", "x" * 25_600)
    refused(HttpResponseError, "BadParameter", vault.set_secret, "under_score", "v")
    names = [item.name for item in vault.list_properties_of_secrets()]
    assert names == ["acme", "large"], names


def disabled():
    vault.set_secret("off", "v")
    vault.update_secret_properties("off", enabled=False)
    error = refused(HttpResponseError, "Operation get is not allowed on a disabled secret", vault.get_secret, "off")
    assert error.status_code == 403 and error.error.innererror["code"] == "SecretDisabled", error.error.innererror
    assert [item.enabled for item in vault.list_properties_of_secret_versions("off")] == [False]


def soft_delete():
    vault.set_secret("gone", "v")
    deleted = vault.begin_delete_secret("gone").result()
    assert deleted.recovery_id.endswith("/deletedsecrets/gone") and deleted.scheduled_purge_date
    error = refused(HttpResponseError, "Conflict", vault.set_secret, "gone", "w")
    assert error.status_code == 409 and error.error.innererror["code"] == "ObjectIsDeletedButRecoverable"
    assert vault.get_deleted_secret("gone").name == "gone"
    assert [item.name for item in vault.list_deleted_secrets()] == ["gone"]
    vault.begin_recover_deleted_secret("gone").wait()
    assert vault.get_secret("gone").value == "v"
    vault.begin_delete_secret("gone").wait()
    vault.purge_deleted_secret("gone")
    refused(ResourceNotFoundError, "", vault.get_deleted_secret, "gone")
    assert vault.set_secret("gone", "x").value == "x"


def identities():
    wrong = ClientSecretCredential(ready["tenant"], ready["client_id"], "wrong", **AUTHORITY)
    refused(ClientAuthenticationError, "AADSTS7000215", client(wrong, retry_total=0).get_secret, "acme")
    token = os.path.join(folder.name, "token")
    with open(token, "w", encoding="utf-8") as file:
        file.write(ready["federated_token"])
    pod = WorkloadIdentityCredential(
        tenant_id=ready["tenant"], client_id=ready["client_id"], token_file_path=token, **AUTHORITY
    )
    assert client(pod).get_secret("acme").value == "value 29"
    other = ClientAssertionCredential(ready["tenant"], ready["client_id"], lambda: "a.b.c", **AUTHORITY)
    refused(ClientAuthenticationError, "AADSTS7000215", client(other, retry_total=0).get_secret, "acme")
    fake("rights", rights=["list"])
    error = refused(HttpResponseError, "does not have secrets get permission", vault.get_secret, "acme")
    assert error.status_code == 403
    fake("rights", rights=["get", "list", "set", "delete", "recover", "purge"])


def throttled():
    fake("faults", operation="secrets.get", fault={"throttle": {"retry_after_seconds": 1}})
    error = refused(HttpResponseError, "Throttled", vault.get_secret, "acme")
    assert (error.status_code, error.response.headers["retry-after"]) == (429, "1")
    fake("faults", operation="secrets.get", fault={"throttle": {"retry_after_seconds": 1}})
    begun = time.monotonic()
    assert client().get_secret("acme").value == "value 29", "the client waits as it is told and asks again"
    assert time.monotonic() - begun >= 1


for check in (versions, disabled, soft_delete, identities, throttled):
    check()
    print(f"  {check.__name__.replace('_', ' ')}: as azure-keyvault-secrets expects")
