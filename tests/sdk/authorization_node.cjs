// keyholder as an authorization server, asked by the libraries that resource servers and clients use: oauth4webapi,
// openid-client and jose. They know keyholder by its issuer identifier alone.
//
// Environment: KH_ISSUER, KH_ALGORITHM, KH_AUDIENCE, KH_JWT and KH_API (each CLIENT_ID:CLIENT_SECRET, the second may
// introspect), KH_OPAQUE (a client with opaque tokens), KH_TOKEN_FILE (a token that another run left, or to be left), KH_PHASE.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const jose = require("jose");
const oauth = require("oauth4webapi");
const openid = require("openid-client");

const environment = process.env;
const issuer = new URL(environment.KH_ISSUER);
const pair = (name) => {
  const [id, secret] = environment[name].split(":");
  return { client: { client_id: id }, secret };
};
const jwt = pair("KH_JWT");
const api = pair("KH_API");
const opaque = pair("KH_OPAQUE");
let steps = 0;

function step(text) {
  steps += 1;
  console.log(`  ${environment.KH_ALGORITHM.padEnd(5)}  ${String(steps).padStart(2)}. ${text}`);
}

async function token(server, login, auth, parameters = {}) {
  const response = await oauth.clientCredentialsGrantRequest(server, login.client, auth(login.secret), parameters);
  return oauth.processClientCredentialsResponse(server, login.client, response);
}

async function verified(server, text) {
  const keys = jose.createRemoteJWKSet(new URL(server.jwks_uri));
  return jose.jwtVerify(text, keys, {
    issuer: issuer.href, audience: environment.KH_AUDIENCE, typ: "at+jwt", algorithms: [environment.KH_ALGORITHM],
    requiredClaims: ["exp", "iat", "sub", "client_id", "jti"],
  });
}

async function error(promise) {
  try {
    await promise;
  } catch (caught) {
    return caught;
  }
  throw new Error("it was not refused");
}

async function introspected(server, login, text) {
  const response = await oauth.introspectionRequest(server, login.client, oauth.ClientSecretBasic(login.secret), text);
  return oauth.processIntrospectionResponse(server, login.client, response);
}

async function first(server) {
  for (const auth of [oauth.ClientSecretBasic, oauth.ClientSecretPost]) {
    const answer = await token(server, jwt, auth);
    assert.equal(answer.token_type, "bearer");
    assert.equal(answer.expires_in, 300);
    assert.equal(answer.scope, "orders:read orders:write");
    const { payload, protectedHeader } = await verified(server, answer.access_token);
    assert.equal(payload.sub, jwt.client.client_id);
    assert.equal(payload.exp - payload.iat, 300);
    assert.equal(protectedHeader.alg, environment.KH_ALGORITHM);
  }
  step("a token by basic and by post, verified by the published keys (jose)");

  const narrowed = await token(server, jwt, oauth.ClientSecretBasic, { scope: "orders:read" });
  const request = new Request("https://api.example/orders", {
    headers: { authorization: `Bearer ${narrowed.access_token}` },
  });
  const claims = await oauth.validateJwtAccessToken(server, request, environment.KH_AUDIENCE);
  assert.equal(claims.scope, "orders:read");
  step("a narrowed token, valid by RFC 9068 (oauth4webapi)");

  const scope = await error(token(server, jwt, oauth.ClientSecretBasic, { scope: "orders:delete" }));
  assert.equal(scope.error, "invalid_scope");
  const wrong = await error(token(server, { ...jwt, secret: "khs_wrong" }, oauth.ClientSecretBasic));
  assert.ok(wrong instanceof oauth.WWWAuthenticateChallengeError && wrong.cause[0].scheme === "basic", wrong);
  step("a foreign scope and a wrong secret are refused as the standards say");

  const told = await introspected(server, api, narrowed.access_token);
  assert.equal(told.active, true);
  assert.equal(told.client_id, jwt.client.client_id);
  assert.equal(told.jti, claims.jti);
  const unknown = await introspected(server, api, "never-was");
  assert.deepEqual(unknown, { active: false });
  step("introspection");

  const plain = await token(server, opaque, oauth.ClientSecretBasic);
  assert.ok(plain.access_token.startsWith("kht_"));
  assert.equal((await introspected(server, api, plain.access_token)).active, true);
  const gone = await oauth.revocationRequest(
    server, opaque.client, oauth.ClientSecretBasic(opaque.secret), plain.access_token,
  );
  await oauth.processRevocationResponse(gone);
  assert.deepEqual(await introspected(server, api, plain.access_token), { active: false });
  const foreign = await token(server, opaque, oauth.ClientSecretBasic);
  const refused = await oauth.revocationRequest(
    server, jwt.client, oauth.ClientSecretBasic(jwt.secret), foreign.access_token,
  );
  assert.equal((await error(oauth.processRevocationResponse(refused))).error, "unauthorized_client");
  assert.equal((await introspected(server, api, foreign.access_token)).active, true);
  step("revocation of the client's own token, and of no other");

  const config = await openid.discovery(
    issuer, jwt.client.client_id, jwt.secret, openid.ClientSecretPost(jwt.secret), { algorithm: "oauth2" },
  );
  const granted = await openid.clientCredentialsGrant(config, { scope: "orders:write" });
  assert.equal(granted.scope, "orders:write");
  await verified(server, granted.access_token);
  const asking = await openid.discovery(
    issuer, api.client.client_id, api.secret, openid.ClientSecretBasic(api.secret), { algorithm: "oauth2" },
  );
  assert.equal((await openid.tokenIntrospection(asking, granted.access_token)).active, true);
  step("discovery, grant and introspection (openid-client)");
  fs.writeFileSync(environment.KH_TOKEN_FILE, granted.access_token);
}

async function afterRotation(server) {
  const old = await verified(server, fs.readFileSync(environment.KH_TOKEN_FILE, "utf8"));
  const fresh = await verified(server, (await token(server, jwt, oauth.ClientSecretBasic)).access_token);
  assert.notEqual(old.protectedHeader.kid, fresh.protectedHeader.kid);
  step("after a change of keys the old token and a new one are both valid");
}

async function main() {
  const response = await oauth.discoveryRequest(issuer, { algorithm: "oauth2" });
  const server = await oauth.processDiscoveryResponse(issuer, response);
  assert.equal(server.issuer, issuer.href);
  step("discovery (RFC 8414)");
  await (environment.KH_PHASE === "1" ? first(server) : afterRotation(server));
}

main().catch((caught) => {
  console.error(caught);
  process.exit(1);
});
