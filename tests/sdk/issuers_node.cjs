// keyholder in front of an API, with tokens of real authorization servers (issuer_oidc_provider.cjs). The clients are
// openid-client and oauth4webapi; proofs that no library would make are made with jose. Each thing that is taken has a
// twin that is refused, and of every refusal the reason is looked up in keyholder's metrics.
//
// Environment: KH_FOLDER (issuers.json, ca.pem and the clients' certificates), KH_URL (the protected API "orders"),
// KH_TURNING_URL (another, which takes the turning issuer's tokens alone), KH_METRICS, KH_BACKEND_PORT (the API itself is
// here), KH_STARTED (milliseconds since 1970: not later than keyholder's start).
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
const read = (name) => fs.readFileSync(path.join(environment.KH_FOLDER, name));
const { control, issuers } = JSON.parse(read("issuers.json"));
const AUDIENCE = "https://api.example";
const ORDERS = `${environment.KH_URL}/orders`;
// keyholder asks for a key set at most this often because of tokens whose key it does not know
const ASK_EVERY_MS = 10_000;
// tries of a condition that comes with time, and the pause between them
const TRIES = 160;
const PAUSE_MS = 250;
let steps = 0;
const TURNING = new URL(environment.KH_TURNING_URL).host;
// requests that came through, for each protected API
const backendCalls = { orders: 0, turning: 0 };

function step(text) {
  steps += 1;
  console.log(`  oidc-provider  ${String(steps).padStart(2)}. ${text}`);
}

// the API behind keyholder: tells what it was sent
function backend() {
  const server = http.createServer((request, response) => {
    backendCalls[request.headers["x-forwarded-host"] === TURNING ? "turning" : "orders"] += 1;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers }));
  });
  return new Promise((resolve) => server.listen(Number(environment.KH_BACKEND_PORT), "127.0.0.1", () => resolve(server)));
}

// fetch over a connection with a client certificate, which the platform's own fetch has no option for
function fetchWith(name) {
  const ca = read("ca.pem");
  const certificate = name === undefined ? {} : { cert: read(`${name}.pem`), key: read(`${name}.key`) };
  return (url, { method, headers, body }) =>
    new Promise((resolve, reject) => {
      const options = { method, headers: Object.fromEntries(new Headers(headers)), ca, agent: false, ...certificate };
      const request = https.request(url, options, (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("end", () => resolve(new Response(Buffer.concat(parts), { status: answer.statusCode, headers: answer.headers })));
        answer.on("error", reject);
      });
      request.on("error", reject);
      request.end(body === undefined || body === null ? undefined : body.toString());
    });
}

async function client(issuer, id, options = {}) {
  const { url, [id]: secret } = issuers[issuer];
  const auth = secret === undefined ? openid.TlsClientAuth() : openid.ClientSecretBasic(secret);
  return openid.discovery(new URL(url), id, {}, auth, { algorithm: "oauth2", ...options });
}

// a resource's identifier tells the provider how its tokens shall be
async function token(config, { scope = "orders:read", query = "", audience = AUDIENCE, DPoP } = {}) {
  const parameters = { scope, resource: `${audience}/${query}` };
  return (await openid.clientCredentialsGrant(config, parameters, { DPoP })).access_token;
}

async function call(text, { url = ORDERS, method = "GET", scheme = "Bearer", proof, fetching = fetch } = {}) {
  const headers = { ...(text && { authorization: `${scheme} ${text}` }), ...(proof && { dpop: proof }) };
  const answer = await fetching(url, { method, headers });
  return { status: answer.status, challenge: answer.headers.get("www-authenticate"), body: await answer.json() };
}

// keyholder refuses the platform's own fetch here, which calls itself a browser's
function metrics() {
  return new Promise((resolve, reject) => {
    const request = http.get(environment.KH_METRICS, { agent: false }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => resolve(Buffer.concat(parts).toString()));
    });
    request.on("error", reject);
  });
}

async function refusals() {
  const text = await metrics();
  const counted = new Map();
  for (const [, site, reason, count] of text.matchAll(/^keyholder_inbound_refusals_total\{site="([^"]+)",reason="([^"]+)"\} (\d+)/gm)) {
    counted.set(`${site} ${reason}`, Number(count));
  }
  assert.ok(text.includes("# TYPE keyholder_inbound_refusals"), text);
  return counted;
}

// one request that keyholder must refuse by itself, for this reason
async function refused(reason, request, { status = 401, error, scheme = "Bearer", site = "orders" }) {
  const [before, calls] = [await refusals(), backendCalls[site]];
  const answer = await request();
  assert.equal(answer.status, status, JSON.stringify(answer));
  if (error) {
    assert.ok(answer.challenge.startsWith(`${scheme} realm=`), answer.challenge);
    assert.ok(answer.challenge.includes(`error="${error}"`), answer.challenge);
  }
  const name = `${site} ${reason}`;
  const after = await refusals();
  assert.equal(after.get(name), (before.get(name) ?? 0) + 1, `${reason}: ${JSON.stringify([answer, [...before], [...after]])}`);
  assert.equal(backendCalls[site], calls, "the API has seen a request that was refused");
  return answer;
}

async function taken(request) {
  const calls = backendCalls.orders;
  const answer = await request();
  assert.equal(answer.status, 200, JSON.stringify(answer));
  assert.ok(backendCalls.orders > calls, "the API has not seen the request");
  return answer.body;
}

async function eventually(what, condition) {
  for (let tries = 0; tries < TRIES; tries += 1) {
    const found = await condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  throw new Error(`not within ${(TRIES * PAUSE_MS) / 1000} s: ${what}`);
}

async function steer(words) {
  return (await fetch(`${control}/${words}`, { method: "POST" })).json();
}

async function asked(issuer, what) {
  return (await steer(`requests?issuer=${issuer}`))[what] ?? 0;
}

// how often an issuer was asked for something after the first `before` times: once in each interval at most
async function bounded(issuer, what, everyMs, sinceMs, before = 0) {
  const count = (await asked(issuer, what)) - before;
  const most = 1 + Math.floor((Date.now() - sinceMs) / everyMs);
  assert.ok(count <= most, `${what} came ${count} times, at most ${most} were allowed`);
  return count;
}

async function structured() {
  const reader = await client("structured", "reader");
  for (const alg of ["ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519"]) {
    const text = await token(reader, { query: `?alg=${alg}` });
    assert.equal(jose.decodeProtectedHeader(text).alg, alg);
    const body = await taken(() => call(text));
    assert.equal(body.headers["x-subject"], "reader");
    assert.equal(body.headers["x-tenant"], "acme");
    assert.equal(body.headers.authorization, undefined);
  }
  step("RFC 9068 tokens by six algorithms are taken, and the API is told who calls");

  const narrow = await token(reader);
  const wide = await token(reader, { scope: "orders:read orders:write" });
  const post = (text) => () => call(text, { method: "POST" });
  const { challenge } = await refused("insufficient_scope", post(narrow), { status: 403, error: "insufficient_scope" });
  assert.ok(challenge.includes('scope="orders:write"'), challenge);
  await taken(post(wide));
  const tenant = (text) => () => call(text, { url: `${environment.KH_URL}/tenants/acme` });
  const stranger = await token(await client("structured", "stranger"));
  await taken(() => call(stranger));
  await refused("condition_not_met", tenant(stranger), { status: 403, error: "insufficient_scope" });
  await taken(tenant(narrow));
  step("scopes and claims decide for each route: 403 with what would do");

  const invalid = { error: "invalid_token" };
  await refused("audience_not_of_api", async () => call(await token(reader, { audience: "https://other.example" })), invalid);
  const [head, payload, signature] = narrow.split(".");
  const more = JSON.stringify({ ...jose.decodeJwt(narrow), scope: "orders:read orders:write" });
  await refused("signature_invalid", post([head, Buffer.from(more).toString("base64url"), signature].join(".")), invalid);
  const none = Buffer.from(JSON.stringify({ ...jose.decodeProtectedHeader(narrow), alg: "none" })).toString("base64url");
  await refused("algorithm_none", () => call(`${none}.${payload}.`), invalid);
  await refused("token_missing", () => call(undefined), {});
  const brief = await token(reader, { query: "?ttl=1" });
  await eventually("the end of a token", async () => (await call(brief)).status === 401);
  await refused("expired", () => call(brief), invalid);
  await taken(() => call(narrow));
  step("another audience, changed claims, no signature, no token and an expired one are refused");
}

// proofs as no library would make them
async function proof(pair, text, changes = {}) {
  const claims = { htm: "GET", htu: ORDERS, ath: crypto.hash("sha256", text, "base64url"), jti: crypto.randomUUID(), ...changes };
  const jwk = await jose.exportJWK(pair.publicKey);
  return new jose.SignJWT(claims).setProtectedHeader({ alg: "ES256", typ: "dpop+jwt", jwk }).setIssuedAt().sign(pair.privateKey);
}

async function boundByKey(issuer) {
  const reader = await client(issuer, "reader");
  const pair = await openid.randomDPoPKeyPair("ES256", { extractable: true });
  const DPoP = openid.getDPoPHandle(reader, pair);
  const text = await token(reader, { DPoP });
  await taken(async () => {
    const answer = await openid.fetchProtectedResource(reader, text, new URL(ORDERS), "GET", null, undefined, { DPoP });
    return { status: answer.status, body: await answer.json() };
  });
  const webapi = oauth.DPoP({ client_id: "reader" }, pair);
  const answer = await oauth.protectedResourceRequest(text, "GET", new URL(ORDERS), undefined, null, { DPoP: webapi });
  assert.equal(answer.status, 200);

  const shown = (made) => () => call(text, { scheme: "DPoP", proof: made });
  const [invalid, bad] = [{ scheme: "DPoP", error: "invalid_token" }, { scheme: "DPoP", error: "invalid_dpop_proof" }];
  await refused("proof_missing", shown(undefined), bad);
  await refused("proof_missing", () => call(text), { error: "invalid_token" });
  const asBearer = await proof(pair, text);
  await refused("proof_missing", () => call(text, { proof: asBearer }), { error: "invalid_token" });
  const other = await openid.randomDPoPKeyPair("ES256", { extractable: true });
  await refused("proof_key_mismatch", shown(await proof(other, text)), invalid);
  const once = await proof(pair, text);
  await taken(shown(once));
  await refused("proof_replayed", shown(once), bad);
  await refused("proof_method", shown(await proof(pair, text, { htm: "POST" })), bad);
  await refused("proof_uri", shown(await proof(pair, text, { htu: `${ORDERS}/1` })), bad);
  await refused("proof_uri", shown(await proof(pair, text, { htu: "https://elsewhere.example/orders" })), bad);
  await refused("proof_token_hash", shown(await proof(pair, "another token")), bad);
  const plain = await token(reader);
  await refused("proof_unbound", async () => call(plain, { scheme: "DPoP", proof: await proof(pair, plain) }), invalid);
  // the gateway has one address, whatever name it is reached by
  const named = ORDERS.replace("127.0.0.1", "localhost");
  const there = await proof(pair, text, { htu: named });
  await refused("proof_uri", () => call(text, { url: named, scheme: "DPoP", proof: there }), bad);
  // with another scheme the library's own challenge parser has to understand the answer
  const caught = await oauth.protectedResourceRequest(text, "GET", new URL(ORDERS)).then(() => undefined, (error) => error);
  assert.ok(caught instanceof oauth.WWWAuthenticateChallengeError, caught);
  assert.deepEqual(caught.cause.map(({ scheme, parameters }) => [scheme, parameters.error]), [["bearer", "invalid_token"]]);
  step(`${issuer} tokens bound by DPoP are taken with their proof, once, and not without, as bearer's or by others`);
}

async function boundByCertificate(issuer) {
  const own = fetchWith("machine");
  const machine = await client(issuer, "machine", { [openid.customFetch]: own });
  const text = await token(machine);
  await taken(async () => {
    const answer = await openid.fetchProtectedResource(machine, text, new URL(ORDERS), "GET");
    return { status: answer.status, body: await answer.json() };
  });
  const invalid = { error: "invalid_token" };
  await refused("certificate_mismatch", () => call(text, { fetching: fetchWith("other") }), invalid);
  await refused("certificate_missing", () => call(text), invalid);
  // a certificate alone opens nothing
  await refused("token_missing", () => call(undefined, { fetching: own }), {});
  step(`${issuer} tokens bound to a certificate are taken over its connection, and over no other's or none`);
}

async function opaque() {
  const reader = await client("opaque", "reader");
  const text = await token(reader);
  assert.equal(text.split(".").length, 1);
  const question = "POST /token/introspection";
  const [before, since] = [await asked("opaque", question), Date.now()];
  const all = await Promise.all(Array.from({ length: 40 }, () => call(text)));
  assert.deepEqual([...new Set(all.map(({ status }) => status))], [200]);
  assert.ok(all.every(({ body }) => body.headers["x-subject"] === undefined && body.headers["x-client"] === "reader"));
  // an answer is believed for 3 s here, in whole seconds rounded down
  assert.ok((await bounded("opaque", question, 2000, since, before)) >= 1);
  await refused("insufficient_scope", () => call(text, { method: "POST" }), { status: 403, error: "insufficient_scope" });
  await taken(async () => call(await token(reader, { scope: "orders:read orders:write" }), { method: "POST" }));
  await refused("audience_not_of_api", async () => call(await token(reader, { audience: "https://other.example" })), { error: "invalid_token" });
  await refused("inactive", () => call(crypto.randomBytes(32).toString("base64url")), { error: "invalid_token" });
  step("opaque tokens are introspected once for all who wait; scopes and audience count");

  const kept = await token(reader);
  await taken(() => call(text));
  await openid.tokenRevocation(reader, text);
  await eventually("the end of a revoked token", async () => (await call(text)).status === 401);
  await refused("inactive", () => call(text), { error: "invalid_token" });
  await taken(() => call(kept));
  step("a token that was revoked at its issuer is refused when the memory of its introspection ends");

  await steer("secret?issuer=opaque&value=another-secret-of-the-one-who-asks");
  const unseen = await token(reader);
  await refused("issuer_unavailable", () => call(unseen), { status: 503 });
  await steer(`secret?issuer=opaque&value=${issuers.opaque.introspector}`);
  await taken(() => call(unseen));
  step("while the issuer refuses keyholder's own credential nobody is let in, with 503 and not 401");
}

// tokens whose key no issuer ever published
async function invented() {
  const { privateKey } = await jose.generateKeyPair("ES256");
  const now = Math.floor(Date.now() / 1000);
  return new jose.SignJWT({ scope: "orders:read", client_id: "reader", jti: crypto.randomUUID() })
    .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: crypto.randomUUID() })
    .setIssuer(issuers.turning.url).setAudience(AUDIENCE).setSubject("reader").setIssuedAt(now).setExpirationTime(now + 300)
    .sign(privateKey);
}

async function turning() {
  const url = `${environment.KH_TURNING_URL}/orders`;
  const status = async (text) => (await call(text, { url })).status;
  const since = Number(environment.KH_STARTED);
  const fetched = () => bounded("turning", "GET /jwks", ASK_EVERY_MS, since);
  const reader = await client("turning", "reader");
  const old = await token(reader);
  assert.equal(await status(old), 200);
  const wild = await Promise.all(Array.from({ length: 200 }, invented));
  const answers = await Promise.all(wild.map(status));
  assert.deepEqual([...new Set(answers)], [401]);
  const first = await fetched();

  await steer("turn?issuer=turning&step=add");
  const fresh = await token(reader);
  assert.notEqual(jose.decodeProtectedHeader(fresh).kid, jose.decodeProtectedHeader(old).kid);
  await eventually("a token of the new key being taken", async () => (await status(fresh)) === 200);
  assert.equal(await status(old), 200);
  const second = await fetched();
  assert.ok(second > first, "the new key came without a request for it");

  await steer("turn?issuer=turning&step=remove");
  // the set is fetched again because of keys that it lacks; the token of the removed key was verified before
  await eventually("the end of the removed key", async () => {
    assert.equal(await status(await invented()), 401);
    return (await status(old)) === 401;
  });
  await refused("key_unknown", () => call(old, { url }), { error: "invalid_token", site: "turning" });
  assert.equal(await status(fresh), 200);
  assert.ok((await fetched()) > second);
  step("keys turn: the new one is found by its token, the removed one ends what it signed, 200 invented ones cost nothing");
}

async function others() {
  await structured();
  for (const issuer of ["structured", "opaque"]) {
    await boundByKey(issuer);
    await boundByCertificate(issuer);
  }
  await opaque();
}

async function main() {
  const server = await backend();
  await Promise.all([turning(), others()]);
  server.close();
  server.closeAllConnections();
}

main().catch((caught) => {
  console.error(caught);
  process.exit(1);
});
