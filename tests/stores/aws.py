"""The rules of the strict AWS fake, as the official boto3 sees them.

usage: aws.py READY_FILE, the file that `kh-fakes aws --ready-file READY_FILE` wrote.

Asserts rule by rule and ends with the number of rules that held. The rules use secrets of fixed names: one run for one
fake.
"""

import contextlib
import json
import pathlib
import sys
import urllib.request
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

CURRENT, PENDING = "AWSCURRENT", "KH_PENDING"


class Fake:
    """The running fake and its control requests."""

    def __init__(self, ready):
        self.ready = ready

    def client(self, service="secretsmanager", region=None, **changed):
        key = {
            "aws_access_key_id": self.ready["access_key_id"],
            "aws_secret_access_key": self.ready["secret_access_key"],
            **changed,
        }
        # Without repeats, so that each refusal is seen as it is.
        config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, parameter_validation=False)
        return boto3.client(
            service, endpoint_url=self.ready["url"], region_name=region or self.ready["region"], config=config, **key
        )

    def command(self, name, argument=None, method="POST"):
        body = None if argument is None else json.dumps(argument).encode()
        request = urllib.request.Request(f"{self.ready['url']}/_fake/{name}", data=body, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")


@contextlib.contextmanager
def refused(code):
    try:
        yield
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        assert error.response["Error"]["Message"], "a refusal has a message"
    else:
        raise AssertionError(f"{code} was expected")


def token():
    return str(uuid.uuid4())


def labels(client, name):
    found = client.describe_secret(SecretId=name).get("VersionIdsToStages", {})
    return {label: version for version, stages in found.items() for label in stages}


def seeded(client, name):
    first = token()
    client.create_secret(Name=name, ClientRequestToken=first, SecretString="one")
    return first


def versions_are_immutable(fake):
    client, name, second = fake.client(), "immutable", token()
    first = seeded(client, name)
    client.put_secret_value(SecretId=name, ClientRequestToken=second, SecretString="two", VersionStages=[PENDING])
    client.put_secret_value(SecretId=name, ClientRequestToken=second, SecretString="two", VersionStages=[PENDING])
    with refused("ResourceExistsException"):
        client.put_secret_value(SecretId=name, ClientRequestToken=second, SecretString="x", VersionStages=[PENDING])
    assert labels(client, name) == {CURRENT: first, PENDING: second}
    assert client.get_secret_value(SecretId=name, VersionId=second)["SecretString"] == "two"


def the_current_label_is_compared_and_set(fake):
    client, name, second, third = fake.client(), "moved", token(), token()
    first = seeded(client, name)
    client.put_secret_value(SecretId=name, ClientRequestToken=second, SecretString="two", VersionStages=[PENDING])
    client.put_secret_value(SecretId=name, ClientRequestToken=third, SecretString="three", VersionStages=["OTHER"])
    move = lambda **more: client.update_secret_version_stage(SecretId=name, VersionStage=CURRENT, **more)
    for wrong in (
        {"MoveToVersionId": second},
        {"MoveToVersionId": second, "RemoveFromVersionId": third},
        {"RemoveFromVersionId": first},
    ):
        with refused("InvalidParameterException"):
            move(**wrong)
    move(MoveToVersionId=second, RemoveFromVersionId=first)
    with refused("InvalidParameterException"):
        move(MoveToVersionId=third, RemoveFromVersionId=first)
    assert labels(client, name) == {CURRENT: second, "AWSPREVIOUS": first, PENDING: second, "OTHER": third}
    assert client.get_secret_value(SecretId=name)["SecretString"] == "two", "also without a label"
    move(MoveToVersionId=first, RemoveFromVersionId=second)
    assert client.get_secret_value(SecretId=name)["VersionId"] == first, "and back"


def the_first_version_is_current(fake):
    client, name, first = fake.client(), "empty", token()
    client.create_secret(Name=name)
    with refused("ResourceNotFoundException"):
        client.get_secret_value(SecretId=name)
    client.put_secret_value(SecretId=name, ClientRequestToken=first, SecretString="one", VersionStages=[PENDING])
    assert labels(client, name) == {CURRENT: first, PENDING: first}


def versions_without_a_label_are_hidden(fake):
    client, name, second = fake.client(), "hidden", token()
    first = seeded(client, name)
    client.put_secret_value(SecretId=name, ClientRequestToken=second, SecretString="two", VersionStages=[PENDING])
    client.update_secret_version_stage(SecretId=name, VersionStage=PENDING, RemoveFromVersionId=second)
    assert list(client.describe_secret(SecretId=name)["VersionIdsToStages"]) == [first]
    assert len(client.list_secret_version_ids(SecretId=name)["Versions"]) == 1
    assert len(client.list_secret_version_ids(SecretId=name, IncludeDeprecated=True)["Versions"]) == 2


def limits_hold(fake):
    client, name = fake.client(), "limits"
    seeded(client, name)
    client.put_secret_value(SecretId=name, SecretString="x" * 65536, VersionStages=[PENDING])
    with refused("ValidationException"):
        client.put_secret_value(SecretId=name, SecretString="x" * 65537, VersionStages=[PENDING])
    with refused("ValidationException"):
        client.put_secret_value(SecretId=name, SecretString="x", VersionStages=[f"L{n}" for n in range(21)])
    with refused("LimitExceededException"):
        client.put_secret_value(SecretId=name, SecretString="x", VersionStages=[f"L{n}" for n in range(20)])
    with refused("ValidationException"):
        client.put_secret_value(SecretId=name, ClientRequestToken="short", SecretString="x")
    for _ in range(98):
        client.put_secret_value(SecretId=name, SecretString="x", VersionStages=[PENDING])
    with refused("LimitExceededException"):
        client.put_secret_value(SecretId=name, SecretString="x", VersionStages=[PENDING])
    assert fake.command("puts-too-often", {"name": name}) is True


def names_that_exist_are_refused(fake):
    client, name = fake.client(), "taken"
    seeded(client, name)
    with refused("ResourceExistsException"):
        client.create_secret(Name=name, SecretString="other")
    with refused("ValidationException"):
        client.create_secret(Name="not a name", SecretString="x")
    client.delete_secret(SecretId=name)
    with refused("InvalidRequestException"):
        client.get_secret_value(SecretId=name)
    with refused("InvalidRequestException"):
        client.create_secret(Name=name, SecretString="x")
    client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    client.create_secret(Name=name, SecretString="x")


def identities_are_checked(fake):
    seeded(fake.client(), "mine")
    with refused("InvalidSignatureException"):
        fake.client(aws_secret_access_key="wrong").get_secret_value(SecretId="mine")
    with refused("UnrecognizedClientException"):
        fake.client(aws_access_key_id="AKIAUNKNOWN").get_secret_value(SecretId="mine")
    with refused("UnrecognizedClientException"):
        fake.client(aws_session_token="stolen").get_secret_value(SecretId="mine")
    with refused("ResourceNotFoundException"):
        fake.client(region="us-east-1").get_secret_value(SecretId="mine")
    fake.command("deny", {"operation": "ListSecretVersionIds"})
    with refused("AccessDeniedException"):
        fake.client().list_secret_version_ids(SecretId="mine")


def a_wrong_clock_is_refused(fake):
    seeded(fake.client(), "late")
    fake.command("clock", {"shift_seconds": 600})
    with refused("InvalidSignatureException"):
        fake.client().get_secret_value(SecretId="late")
    fake.command("clock", {"shift_seconds": -600})
    assert fake.client().get_secret_value(SecretId="late")["SecretString"] == "one"


def copies_lag_and_take_no_writes(fake):
    client, name = fake.client(), "copied"
    seeded(client, name)
    fake.command("copy-lag", {"requests": 2})
    client.replicate_secret_to_regions(SecretId=name, AddReplicaRegions=[{"Region": "eu-west-1"}])
    status = lambda: client.describe_secret(SecretId=name)["ReplicationStatus"][0]["Status"]
    seen = [status() for _ in range(4)]
    assert seen[0] == "InProgress" and seen[-1] == "InSync", seen
    other = fake.client(region="eu-west-1")
    assert other.get_secret_value(SecretId=name)["SecretString"] == "one"
    with refused("InvalidRequestException"):
        other.put_secret_value(SecretId=name, SecretString="x")
    fake.command("copy-lag", {"requests": 0})


def reads_may_lag(fake):
    client, name = fake.client(), "stale"
    seeded(client, name)
    fake.command("read-lag", {"reads": 2})
    client.put_secret_value(SecretId=name, SecretString="two")
    fake.command("read-lag", {"reads": 0})
    assert [client.get_secret_value(SecretId=name)["SecretString"] for _ in range(3)] == ["one", "one", "two"]


def a_throttled_call_is_said_so(fake):
    client = fake.client()
    fake.command("faults", {"operation": "ListSecrets", "fault": {"throttle": {"retry_after_seconds": None}}})
    with refused("ThrottlingException"):
        client.list_secrets()
    assert client.list_secrets(Filters=[{"Key": "name", "Values": ["copied"]}])["SecretList"][0]["Name"] == "copied"


def a_function_changes_against_its_revision(fake):
    fake.command("function", {"name": "orders"})
    client = fake.client("lambda")
    found = client.get_function_configuration(FunctionName="orders")
    client.update_function_configuration(FunctionName="orders", Description="a", RevisionId=found["RevisionId"])
    with refused("PreconditionFailedException"):
        client.update_function_configuration(FunctionName="orders", Description="b", RevisionId=found["RevisionId"])
    with refused("ResourceNotFoundException"):
        client.get_function_configuration(FunctionName="none")
    assert client.get_function_configuration(FunctionName="orders")["Description"] == "a"


RULES = [
    versions_are_immutable,
    the_current_label_is_compared_and_set,
    the_first_version_is_current,
    versions_without_a_label_are_hidden,
    limits_hold,
    names_that_exist_are_refused,
    identities_are_checked,
    a_wrong_clock_is_refused,
    copies_lag_and_take_no_writes,
    reads_may_lag,
    a_throttled_call_is_said_so,
    a_function_changes_against_its_revision,
]


def main():
    fake = Fake(json.loads(pathlib.Path(sys.argv[1]).read_text()))
    for rule in RULES:
        rule(fake)
        print(f"holds: {rule.__name__.replace('_', ' ')}")
    print(f"{len(RULES)} rules hold by boto3 {boto3.__version__}")


main()
