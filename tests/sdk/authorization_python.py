"""keyholder as an authorization server, asked by Authlib as client and as resource server (RFC 9068).

Environment: KH_ISSUER, KH_ALGORITHM, KH_AUDIENCE, KH_JWT, KH_API and KH_OPAQUE (each CLIENT_ID:CLIENT_SECRET); the private
CA comes in by REQUESTS_CA_BUNDLE.
"""

import os
from urllib.parse import urlsplit

import requests
from authlib.integrations.requests_client import OAuth2Session, OAuthError
from authlib.oauth2.rfc6750.errors import InsufficientScopeError, InvalidTokenError
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc import errors, jwt
from joserfc.jwk import KeySet

ISSUER, AUDIENCE, ALGORITHM = (os.environ[name] for name in ("KH_ISSUER", "KH_AUDIENCE", "KH_ALGORITHM"))
steps = 0


def step(text):
    global steps
    steps += 1
    print(f"  {ALGORITHM:5}  {steps:2}. {text} (Authlib)", flush=True)


def session(name, method="client_secret_basic", scope=None):
    client, secret = os.environ[name].split(":")
    return OAuth2Session(client, secret, token_endpoint_auth_method=method, scope=scope)


url = get_well_known_url(ISSUER, external=True)
metadata = requests.get(url, timeout=10).json()
assert metadata["issuer"] == ISSUER, metadata
# Authlib's own check wants an authorization endpoint's response types; the rest of its rules holds
checked = AuthorizationServerMetadata(metadata)
for rule in ("issuer", "token_endpoint", "jwks_uri", "revocation_endpoint", "introspection_endpoint",
             "token_endpoint_auth_methods_supported", "grant_types_supported"):
    getattr(checked, f"validate_{rule}")()
step("the metadata keeps the rules of RFC 8414")


class Validator(JWTBearerTokenValidator):
    def get_jwks(self):
        return KeySet.import_key_set(requests.get(metadata["jwks_uri"], timeout=10).json())


validator = Validator(issuer=ISSUER, resource_server=AUDIENCE)


def scopes_of(text):
    """The scopes of a token that is valid, or why it is not. Authlib's validator takes no EdDSA: joserfc, on which it
    stands, calls that name not recommended and has to be asked for it."""
    if ALGORITHM != "EdDSA":
        claims = validator.authenticate_token(text)
        validator.validate_token(claims, [], None)
        return claims["scope"].split()
    claims = jwt.decode(text, validator.get_jwks(), algorithms=["EdDSA"]).claims
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER}, aud={"essential": True, "value": AUDIENCE}, exp={"essential": True}
    ).validate(claims)
    return claims["scope"].split()


for method in ("client_secret_basic", "client_secret_post"):
    token = session("KH_JWT", method).fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    assert scopes_of(token["access_token"]) == ["orders:read", "orders:write"], token
step("a token by basic and by post, valid by its claims and the published keys")

narrow = session("KH_JWT", scope="orders:read").fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
assert scopes_of(narrow["access_token"]) == ["orders:read"], narrow
if ALGORITHM != "EdDSA":
    claims = validator.authenticate_token(narrow["access_token"])
    try:
        validator.validate_token(claims, ["orders:write"], None)
        raise AssertionError("a narrowed token has a scope that was not asked for")
    except InsufficientScopeError:
        pass
header, payload, signature = narrow["access_token"].split(".")
try:
    scopes_of(".".join([header, payload, signature[::-1]]))
    raise AssertionError("a forged token was taken")
except (InvalidTokenError, errors.JoseError):
    pass
try:
    session("KH_JWT", scope="admin").fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    raise AssertionError("a foreign scope was granted")
except OAuthError as error:
    assert error.error == "invalid_scope", error
step("scopes are narrowed and never widened")

asking = session("KH_API")
told = asking.introspect_token(metadata["introspection_endpoint"], token=narrow["access_token"]).json()
assert told["active"] is True and told["scope"] == "orders:read", told
opaque = session("KH_OPAQUE")
plain = opaque.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")["access_token"]
answer = opaque.revoke_token(metadata["revocation_endpoint"], token=plain)
assert answer.status_code == 200, answer.text
assert asking.introspect_token(metadata["introspection_endpoint"], token=plain).json() == {"active": False}
step("introspection and revocation")
assert urlsplit(url).path.startswith("/.well-known/"), url
