// Tokens of keyholder's own that are bound to their client: openid-client and oauth4webapi log in at keyholder's token
// endpoint with DPoP proofs and with client certificates, and use what they get at a protected API behind keyholder. Each
// thing that is taken has a twin that is refused; what the API behind keyholder saw has the last word.
//
// Environment: KH_FOLDER (ca.pem and the clients' certificates), KH_ISSUER, KH_URL (the protected API), KH_BACKEND_PORT (the
// API itself is here), KH_BY_KEY, KH_BY_CERTIFICATE, KH_FREE, KH_OPAQUE, KH_API (each CLIENT_ID:CLIENT_SECRET: tokens that must
// be bound to a key, to a certificate, to nothing, opaque ones that must be bound to a key; the last may introspect).
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const path = require("node:path");
const jose = require("jose");
const oauth = require("oauth4webapi");
const openid = require("openid-client");

const environment = process.env;
const issuer = new URL(environment.KH_ISSUER);
const ORDERS = `${environment.KH_URL}/orders`;
const TOKEN = `${environment.KH_ISSUER}/oauth/token`;
const read = (name) => fs.readFileSync(path.join(environment.KH_FOLDER, name));
let [steps, calls] = [0, 0];

function step(text) {
  steps += 1;
  console.log(`  bound  ${String(steps).padStart(2)}. ${text}`);
}

const pair = (name) => {
  const [id, secret] = environment[name].split(":");
  return { id, secret };
};
const [byKey, byCertificate, free, opaque, api] = ["BY_KEY", "BY_CERTIFICATE", "FREE", "OPAQUE", "API"].map((name) => pair(`KH_${name}`));

function backend() {
  const server = http.createServer((request, response) => {
    calls += 1;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ headers: request.headers }));
  });
  return new Promise((resolve) => server.listen(Number(environment.KH_BACKEND_PORT), "127.0.0.1", () => resolve(server)));
}

// fetch over a connection with a client certificate, which the platform's own fetch has no option for
function fetchWith(name) {
  const options = { ca: read("ca.pem"), agent: false, ...(name && { cert: read(`${name}.pem`), key: read(`${name}.key`) }) };
  return (url, { method, headers, body }) =>
    new Promise((resolve, reject) => {
      const request = https.request(url, { method, headers: Object.fromEntries(new Headers(headers)), ...options }, (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("end", () => resolve(new Response(Buffer.concat(parts), { status: answer.statusCode, headers: answer.headers })));
        answer.on("error", reject);
      });
      request.on("error", reject);
      request.end(body === undefined || body === null ? undefined : body.toString());
    });
}

const found = (login, options = {}) =>
  openid.discovery(issuer, login.id, {}, openid.ClientSecretBasic(login.secret), { algorithm: "oauth2", ...options });

async function caught(promise) {
  const error = await promise.then(() => undefined, (error) => error);
  assert.ok(error, "it was not refused");
  return error;
}

// what the token endpoint says to a request that no library would make
async function asked(login, headers = [], fetching = fetch) {
  const basic = Buffer.from(`${login.id}:${login.secret}`).toString("base64");
  const all = new Headers([["authorization", `Basic ${basic}`], ["content-type", "application/x-www-form-urlencoded"], ...headers]);
  const answer = await fetching(TOKEN, { method: "POST", headers: all, body: "grant_type=client_credentials" });
  return { status: answer.status, nonce: answer.headers.get("dpop-nonce"), ...(await answer.json()) };
}

// a proof with claims of our choice
async function proof(keys, claims, header = {}) {
  const jwk = await jose.exportJWK(keys.publicKey);
  return new jose.SignJWT({ jti: crypto.randomUUID(), iat: Math.floor(Date.now() / 1000), ...claims })
    .setProtectedHeader({ alg: "ES256", typ: "dpop+jwt", jwk, ...header })
    .sign(keys.privateKey);
}

async function call(text, { scheme = "Bearer", proofs = [], fetching = fetchWith() } = {}) {
  const before = calls;
  const headers = [["authorization", `${scheme} ${text}`], ...proofs.map((one) => ["dpop", one])];
  const answer = await fetching(ORDERS, { method: "GET", headers });
  assert.equal(calls - before, answer.status === 200 ? 1 : 0, "what the API saw");
  return { status: answer.status, challenge: answer.headers.get("www-authenticate") ?? "", body: await answer.json() };
}

const sha256 = (data) => crypto.hash("sha256", data, "base64url");

async function atTheTokenEndpoint(keys, nonce) {
  const good = { htm: "POST", htu: TOKEN, nonce };
  const once = await proof(keys, good);
  assert.equal((await asked(byKey, [["dpop", once]])).token_type, "DPoP");
  const withPrivate = await jose.exportJWK(keys.privateKey);
  for (const [what, headers] of [
    ["none", []],
    ["the same again", [["dpop", once]]],
    ["two", [["dpop", await proof(keys, good)], ["dpop", await proof(keys, good)]]],
    ["another method", [["dpop", await proof(keys, { ...good, htm: "GET" })]]],
    ["another address", [["dpop", await proof(keys, { ...good, htu: "https://elsewhere.example/oauth/token" })]]],
    ["an old one", [["dpop", await proof(keys, { ...good, iat: 1_500_000_000 })]]],
    ["one of tomorrow", [["dpop", await proof(keys, { ...good, iat: Math.floor(Date.now() / 1000) + 86_400 })]]],
    ["without a name", [["dpop", await proof(keys, { ...good, jti: undefined })]]],
    ["no proof by its type", [["dpop", await proof(keys, good, { typ: "JWT" })]]],
    ["with the private key", [["dpop", await proof(keys, good, { jwk: withPrivate })]]],
    ["nothing", [["dpop", "x"]]],
  ]) {
    const answer = await asked(byKey, headers);
    assert.deepEqual([answer.status, answer.error], [400, "invalid_dpop_proof"], what);
  }
  if (nonce) {
    for (const wrong of ["made-up", undefined]) {
      const unsure = await asked(byKey, [["dpop", await proof(keys, { ...good, nonce: wrong })]]);
      assert.deepEqual([unsure.status, unsure.error, typeof unsure.nonce], [400, "use_dpop_nonce", "string"], wrong);
    }
  }
  const unused = await proof(keys, good);
  const stranger = await asked({ ...byKey, secret: "khs_wrong" }, [["dpop", unused]]);
  assert.deepEqual([stranger.status, stranger.error], [401, "invalid_client"]);
  assert.equal((await asked(byKey, [["dpop", unused]])).status, 200);
  step("proofs that no library makes are refused one by one; a wrong secret uses none up");
}

async function byTheirKey() {
  const config = await found(byKey);
  const metadata = config.serverMetadata();
  assert.ok(metadata.dpop_signing_alg_values_supported.includes("ES256"));
  assert.equal(metadata.tls_client_certificate_bound_access_tokens, true);
  step("the metadata tell both kinds of binding (openid-client)");

  for (const alg of metadata.dpop_signing_alg_values_supported.filter((alg) => ["ES256", "PS256", "RS256", "Ed25519"].includes(alg))) {
    const keys = await openid.randomDPoPKeyPair(alg, { extractable: true });
    const DPoP = openid.getDPoPHandle(config, keys);
    const granted = await openid.clientCredentialsGrant(config, {}, { DPoP });
    assert.equal(granted.token_type, "dpop");
    const thumbprint = await jose.calculateJwkThumbprint(await jose.exportJWK(keys.publicKey));
    assert.deepEqual(jose.decodeJwt(granted.access_token).cnf, { jkt: thumbprint });
    const before = calls;
    const answer = await openid.fetchProtectedResource(config, granted.access_token, new URL(ORDERS), "GET", null, undefined, { DPoP });
    assert.equal(answer.status, 200);
    const { headers } = await answer.json();
    assert.deepEqual([calls - before, headers["x-client"], headers.dpop, headers.authorization], [1, byKey.id, undefined, undefined]);
  }
  step("DPoP by several algorithms, nonce included, from the grant to the protected API (openid-client)");

  const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: "oauth2" }));
  const client = { client_id: byKey.id };
  const keys = await oauth.generateKeyPair("ES256", { extractable: true });
  const DPoP = oauth.DPoP(client, keys);
  const grant = async () => {
    const response = await oauth.clientCredentialsGrantRequest(server, client, oauth.ClientSecretPost(byKey.secret), {}, { DPoP });
    return oauth.processClientCredentialsResponse(server, client, response);
  };
  const first = await grant().catch((error) => error);
  if (oauth.isDPoPNonceError(first)) step("the library is told a nonce first (oauth4webapi)");
  const granted = oauth.isDPoPNonceError(first) ? await grant() : first;
  assert.equal(granted.token_type, "dpop");
  const text = granted.access_token;
  const answer = await oauth.protectedResourceRequest(text, "GET", new URL(ORDERS), undefined, null, { DPoP });
  assert.equal(answer.status, 200);
  const plain = await caught(oauth.clientCredentialsGrantRequest(server, client, oauth.ClientSecretPost(byKey.secret), {})
    .then((response) => oauth.processClientCredentialsResponse(server, client, response)));
  assert.equal(plain.error, "invalid_dpop_proof");
  step("the same by oauth4webapi; without a proof the client gets no token");

  const made = (keys, claims = {}) => proof(keys, { htm: "GET", htu: ORDERS, ath: sha256(text), ...claims });
  const other = await oauth.generateKeyPair("ES256", { extractable: true });
  const once = await made(keys);
  assert.equal((await call(text, { scheme: "DPoP", proofs: [once] })).status, 200);
  for (const [what, options, error] of [
    ["as a bearer token", {}, "invalid_token"],
    ["as a bearer token beside a proof", { proofs: [await made(keys)] }, "invalid_token"],
    ["without a proof", { scheme: "DPoP" }, "invalid_dpop_proof"],
    ["the same proof again", { scheme: "DPoP", proofs: [once] }, "invalid_dpop_proof"],
    ["another key's proof", { scheme: "DPoP", proofs: [await made(other)] }, "invalid_token"],
    ["two proofs", { scheme: "DPoP", proofs: [await made(keys), await made(keys)] }, "invalid_dpop_proof"],
    ["another method's", { scheme: "DPoP", proofs: [await made(keys, { htm: "POST" })] }, "invalid_dpop_proof"],
    ["another address's", { scheme: "DPoP", proofs: [await made(keys, { htu: TOKEN })] }, "invalid_dpop_proof"],
    ["another token's", { scheme: "DPoP", proofs: [await made(keys, { ath: sha256("other") })] }, "invalid_dpop_proof"],
    ["an old one", { scheme: "DPoP", proofs: [await made(keys, { iat: 1_500_000_000 })] }, "invalid_dpop_proof"],
  ]) {
    const answer = await call(text, options);
    assert.equal(answer.status, 401, what);
    assert.ok(answer.challenge.startsWith(`${options.scheme ?? "Bearer"} `) && answer.challenge.includes(`error="${error}"`), `${what}: ${answer.challenge}`);
  }
  step("the token opens nothing to others, as a bearer token, or without a proof of its own");
  const { nonce } = await asked(byKey, [["dpop", await proof(keys, { htm: "POST", htu: TOKEN })]]);
  await atTheTokenEndpoint(keys, nonce ?? undefined);
}

async function byTheirCertificate() {
  const own = fetchWith("machine");
  const config = await found(byCertificate, { [openid.customFetch]: own });
  const granted = await openid.clientCredentialsGrant(config, {});
  assert.equal(granted.token_type, "bearer");
  const digest = sha256(new crypto.X509Certificate(read("machine.pem")).raw);
  const text = granted.access_token;
  assert.deepEqual(jose.decodeJwt(text).cnf, { "x5t#S256": digest });
  const answer = await openid.fetchProtectedResource(config, text, new URL(ORDERS), "GET");
  assert.equal(answer.status, 200);
  for (const [what, fetching] of [["another certificate", fetchWith("other")], ["no certificate", fetchWith()]]) {
    const answer = await call(text, { fetching });
    assert.deepEqual([answer.status, answer.challenge.includes('error="invalid_token"')], [401, true], what);
  }
  step("a token is bound to the certificate of its login, and good over its connections alone (openid-client)");

  const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: "oauth2" }));
  const client = { client_id: byCertificate.id };
  const grant = (secret, fetching) =>
    oauth.clientCredentialsGrantRequest(server, client, oauth.ClientSecretBasic(secret), {}, { [oauth.customFetch]: fetching })
      .then((response) => oauth.processClientCredentialsResponse(server, client, response));
  assert.deepEqual(jose.decodeJwt((await grant(byCertificate.secret, own)).access_token).cnf, { "x5t#S256": digest });
  assert.equal((await caught(grant(byCertificate.secret, fetchWith()))).error, "invalid_request");
  const alone = await caught(grant("khs_wrong", own));
  assert.ok(alone instanceof oauth.WWWAuthenticateChallengeError && alone.status === 401, alone);
  const keys = await oauth.generateKeyPair("ES256", { extractable: true });
  const both = await asked(byCertificate, [["dpop", await proof(keys, { htm: "POST", htu: TOKEN })]], own);
  assert.equal(both.status, 400);
  step("without the certificate there is no token, and by the certificate alone neither (oauth4webapi)");
}

async function others() {
  const config = await found(free);
  const text = (await openid.clientCredentialsGrant(config, {})).access_token;
  assert.equal(jose.decodeJwt(text).cnf, undefined);
  const refused = await call(text, { fetching: fetchWith("machine") });
  assert.deepEqual([refused.status, refused.challenge.includes('error="invalid_token"')], [401, true]);
  const keys = await openid.randomDPoPKeyPair("ES256");
  const DPoP = openid.getDPoPHandle(config, keys);
  const bound = await openid.clientCredentialsGrant(config, {}, { DPoP });
  assert.equal(bound.token_type, "dpop");
  const answer = await openid.fetchProtectedResource(config, bound.access_token, new URL(ORDERS), "GET", null, undefined, { DPoP });
  assert.equal(answer.status, 200);
  step("where the API wants bound tokens a bearer token is refused; who may have either gets what it proves");

  const asking = await found(api);
  const caller = await found(opaque);
  const handle = openid.getDPoPHandle(caller, await openid.randomDPoPKeyPair("ES256", { extractable: true }));
  const granted = await openid.clientCredentialsGrant(caller, {}, { DPoP: handle });
  assert.ok(granted.access_token.startsWith("kht_") && granted.token_type === "dpop");
  const told = await openid.tokenIntrospection(asking, granted.access_token);
  assert.deepEqual([told.active, told.token_type, told.cnf], [true, "DPoP", { jkt: await handle.calculateThumbprint() }]);
  const opened = await openid.fetchProtectedResource(caller, granted.access_token, new URL(ORDERS), "GET", null, undefined, { DPoP: handle });
  assert.equal(opened.status, 200);
  assert.equal((await call(granted.access_token)).status, 401);
  await openid.tokenRevocation(caller, granted.access_token);
  assert.equal((await openid.tokenIntrospection(asking, granted.access_token)).active, false);
  step("an opaque token is bound as well: introspection tells it, the protected API asks for it, its client gives it back");
}

async function main() {
  const server = await backend();
  await byTheirKey();
  await byTheirCertificate();
  await others();
  server.close();
  server.closeAllConnections();
}

main().catch((caught) => {
  console.error(caught);
  process.exit(1);
});
