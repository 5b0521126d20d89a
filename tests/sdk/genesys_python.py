"""The official Genesys Cloud Python SDK, unmodified, through keyholder.

Only host or gateway settings differ from a program that talks to the platform itself. Environment: KH_URL (origin of
keyholder), KH_CLIENT_ID, KH_CLIENT_SECRET; KH_CA (PEM of a private CA) for https; KH_PREFIX=1 to use the SDK's
gateway object with path prefixes; KH_SANDBOX=1 when the program talks to the sandbox itself instead of keyholder, as
a cross-check that the sandbox pleases the vendor's own client.
"""

import os
import sys
import urllib.parse

import PureCloudPlatformClientV2 as pc
from PureCloudPlatformClientV2.rest import ApiException

ORIGIN = os.environ["KH_URL"]
DIRECT = os.environ.get("KH_SANDBOX") == "1"
steps = 0


def step(text):
    global steps
    steps += 1
    print(f"  python {steps:2}. {text}", flush=True)


def refused(status, call, *args, **kwargs):
    """The call must fail with this status and with a body that the SDK's own error type understands."""
    try:
        call(*args, **kwargs)
    except ApiException as error:
        assert error.status == status, (error.status, error.body)
        body = pc.ApiClient().sanitize_for_serialization(error.body)
        assert error.body and '"code"' in error.body and '"contextId"' in error.body, body
        return error
    raise AssertionError(f"expected a {status}")


def login():
    if os.environ.get("KH_CA"):
        pc.configuration.ssl_ca_cert = os.environ["KH_CA"]
    if os.environ.get("KH_PREFIX") == "1":
        at = urllib.parse.urlsplit(ORIGIN)
        client = pc.api_client.ApiClient()
        client.set_gateway(at.hostname, at.scheme, at.port, "/login/eu", "api-path/")
    else:
        pc.configuration.host = ORIGIN
        client = pc.api_client.ApiClient()
    return client.get_client_credentials_token(os.environ["KH_CLIENT_ID"], os.environ["KH_CLIENT_SECRET"])


client = login()
assert client.access_token
assert DIRECT or client.access_token.startswith("kht_"), "the application must hold a keyholder token"
step("logged in")

tokens = pc.TokensApi(client)
tokens.head_tokens_me()
me = tokens.get_tokens_me(preserve_idle_ttl=True)
assert me.o_auth_client.id, me
step("tokens/me describes the token")

routing = pc.RoutingApi(client)
queue = routing.post_routing_queues({"name": "keyholder scenario", "description": "created by the SDK"})
assert queue.id and queue.name == "keyholder scenario", queue
step("created a queue")
assert routing.get_routing_queue(queue.id).name == "keyholder scenario"
step("read it back")
changed = routing.put_routing_queue(queue.id, {"name": "keyholder scenario", "description": "changed"})
assert changed.description == "changed", changed
step("updated it")

skills = [routing.post_routing_skills({"name": f"skill {number}"}) for number in range(7)]
seen, page = [], 1
while page <= 3:
    listing = routing.get_routing_skills(page_size=3, page_number=page)
    assert listing.page_number == page and listing.page_size == 3, listing
    seen += [entity.id for entity in listing.entities]
    page += 1
assert len(seen) >= 7 and len(set(seen)) == len(seen), seen
assert all(skill.id in seen for skill in skills[:1]) or listing.total > 9
step("read three pages of a list")
for skill in skills:
    routing.delete_routing_skill(skill.id)
step("deleted the skills")

address = routing.post_routing_sms_addresses(
    {"name": "office", "street": "1 Main", "city": "Berlin", "region": "BE", "postalCode": "10115", "countryCode": "DE"}
)
_, status, _ = routing.delete_routing_sms_address_with_http_info(address.id) if hasattr(
    routing, "delete_routing_sms_address_with_http_info"
) else (routing.delete_routing_sms_address(address.id), 204, None)
assert status == 204, status
step("deleted with a 204")

missing = refused(404, routing.get_routing_queue, "00000000-0000-0000-0000-00000000dead")
assert "ININ-Correlation-Id".lower() in {name.lower() for name in missing.headers}, missing.headers
step("an unknown queue is the platform's 404, with its correlation id")

outbound = pc.OutboundApi(client)
contacts = outbound.post_outbound_contactlists(
    {"name": "upload", "columnNames": ["Phone", "Note"], "phoneColumns": [{"columnName": "Phone", "type": "home"}]}
)
rows = [{"contactListId": contacts.id, "data": {"Phone": f"+4930{number:07}", "Note": "x" * 150}} for number in range(1800)]
outbound.post_outbound_contactlist_contacts(contacts.id, rows)
step("uploaded 1,800 contacts in one body")
outbound.post_outbound_contactlist_clear(contacts.id)
step("a POST with the SDK's null body")
place = pc.UploadsApi(client).post_uploads_recordings({"fileName": "call.wav"})
assert place.url, place
step("asked for an upload address")

details = pc.AnalyticsApi(client).post_analytics_conversations_details_query(
    {"interval": "2026-07-01T00:00:00Z/2026-07-02T00:00:00Z", "paging": {"pageSize": 25, "pageNumber": 1}}
)
assert details is not None
step("queried analytics")
assert pc.OrganizationApi(client).get_organizations_me().id
step("read the organisation")
assert pc.UsersApi(client).get_users(page_size=25).entities is not None
step("listed users")

if not DIRECT:
    error = refused(403, pc.OAuthApi(client).post_oauth_client_secret, "00000000-0000-0000-0000-000000000001")
    assert "keyholder" in error.body, error.body
    step("regenerating a client secret is refused, and the SDK understands why")

routing.delete_routing_queue(queue.id)
refused(404, routing.get_routing_queue, queue.id)
step("deleted the queue")

tokens.delete_tokens_me()
refused(401, routing.get_routing_skills)
step("revoked its own token")
print(f"python: {steps} steps held", flush=True)
sys.exit(0)
