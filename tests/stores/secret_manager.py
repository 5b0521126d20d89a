"""The official Python client of Secret Manager against the strict fake.

Usage: secret_manager.py READY_FILE
"""

import json
import sys
import urllib.request

from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import InvalidOperation
from google.cloud import secretmanager_v1
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import rest
from google.oauth2.credentials import Credentials

with open(sys.argv[1], encoding="utf-8") as file:
    ready = json.load(file)
URL = ready["url"]
PARENT = f"projects/{ready['project']}"
State = secretmanager_v1.SecretVersion.State


def client(credentials):
    host = URL.removeprefix("http://")
    transport = rest.SecretManagerServiceRestTransport(host=host, url_scheme="http", credentials=credentials)
    return secretmanager_v1.SecretManagerServiceClient(transport=transport)


manager = client(Credentials(ready["token"]))


def fake(command, **argument):
    """A command to the fake itself."""
    body = json.dumps(argument).encode()
    request = urllib.request.Request(f"{URL}/_fake/{command}", data=body, method="POST")
    urllib.request.urlopen(request).close()


def refused(kind, text, call, **named):
    """The call must be refused as the client's exception `kind`, with `text` in it."""
    try:
        call(retry=None, **named)
    except kind as error:
        assert text in str(error), f"{text!r} is not in {error}"
        return
    raise AssertionError(f"the call was not refused with {kind.__name__}")


def secret(name):
    request = {"parent": PARENT, "secret_id": name, "secret": {"replication": {"automatic": {}}}}
    return manager.create_secret(request=request)


def add(name, data, **payload):
    request = {"parent": f"{PARENT}/secrets/{name}", "payload": {"data": data, **payload}}
    return manager.add_secret_version(request=request)


def number(resource):
    return resource.name.rsplit("/", 1)[1]


def versions():
    made = secret("acme")
    assert made.etag and made.replication.automatic is not None
    refused(exceptions.Conflict, "already exists", manager.create_secret,
            request={"parent": PARENT, "secret_id": "acme", "secret": {"replication": {"automatic": {}}}})
    first = add("acme", b"one")
    second = add("acme", b"123456789", data_crc32c=3_808_858_755)
    assert (number(first), number(second), second.state) == ("1", "2", State.ENABLED)
    assert second.client_specified_payload_checksum and not first.client_specified_payload_checksum
    refused(exceptions.BadRequest, "checksum", manager.add_secret_version,
            request={"parent": f"{PARENT}/secrets/acme", "payload": {"data": b"x", "data_crc32c": 1}})
    latest = manager.access_secret_version(name=f"{PARENT}/secrets/acme/versions/latest")
    assert latest.payload.data == b"123456789" and latest.payload.data_crc32c == 3_808_858_755
    assert number(latest) == "2"
    for data in range(3, 9):
        add("acme", f"value {data}".encode())
    fake("page", count=3)
    listed = [number(item) for item in manager.list_secret_versions(parent=f"{PARENT}/secrets/acme")]
    assert listed == [str(each) for each in range(8, 0, -1)], listed
    fake("page", count=250)
    refused(exceptions.NotFound, "not found", manager.access_secret_version,
            name=f"{PARENT}/secrets/nothing/versions/latest")


def aliases_and_etags():
    name = f"{PARENT}/secrets/acme"
    before = manager.get_secret(name=name)
    mask = {"paths": ["version_aliases"]}
    refused(exceptions.NotFound, "", manager.access_secret_version, name=f"{name}/versions/current")
    change = {"name": name, "etag": before.etag, "version_aliases": {"current": 2}}
    after = manager.update_secret(request={"secret": change, "update_mask": mask})
    assert dict(after.version_aliases) == {"current": 2} and after.etag != before.etag
    found = manager.access_secret_version(name=f"{name}/versions/current")
    assert found.payload.data == b"123456789" and number(found) == "2"
    # docs/etags: FAILED_PRECONDITION with status 400, which the client's exceptions tell apart by the code
    lost = {"secret": {**change, "version_aliases": {"current": 1}}, "update_mask": mask}
    refused(exceptions.BadRequest, "etag", manager.update_secret, request=lost)
    assert number(manager.get_secret_version(name=f"{name}/versions/current")) == "2"
    bad = {"secret": {"name": name, "version_aliases": {"latest": 1}}, "update_mask": mask}
    refused(exceptions.BadRequest, "alias", manager.update_secret, request=bad)


def states():
    name = f"{PARENT}/secrets/acme/versions/2"
    assert manager.disable_secret_version(name=name).state == State.DISABLED
    refused(exceptions.BadRequest, "is in DISABLED state", manager.access_secret_version,
            name=f"{PARENT}/secrets/acme/versions/current")
    assert manager.enable_secret_version(name=name).state == State.ENABLED
    gone = manager.destroy_secret_version(name=name)
    assert gone.state == State.DESTROYED and gone.destroy_time
    refused(exceptions.BadRequest, "is in DESTROYED state", manager.enable_secret_version, name=name)


def rights():
    # a 401 makes the client ask for another token, which nobody has
    refused(InvalidOperation, "Anonymous", client(AnonymousCredentials()).get_secret, name=f"{PARENT}/secrets/acme")
    asked = ["secretmanager.versions.access", "secretmanager.versions.add"]
    resource = {"resource": f"{PARENT}/secrets/acme", "permissions": asked}
    assert list(manager.test_iam_permissions(request=resource).permissions) == asked
    fake("permissions", permissions=["secretmanager.versions.access"])
    assert list(manager.test_iam_permissions(request=resource).permissions) == asked[:1]
    refused(exceptions.Forbidden, "secretmanager.secrets.get", manager.get_secret,
            name=f"{PARENT}/secrets/acme")
    fake("faults", fault={"throttle": {"retry_after_seconds": 1}})
    refused(exceptions.TooManyRequests, "Quota exceeded", manager.access_secret_version,
            name=f"{PARENT}/secrets/acme/versions/1")


for check in (versions, aliases_and_etags, states, rights):
    check()
    print(f"  {check.__name__.replace('_', ' ')}: as google-cloud-secret-manager expects")
