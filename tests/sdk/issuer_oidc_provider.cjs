// Authorization servers of the npm package oidc-provider on loopback, over TLS, for a gateway that takes their tokens:
//
//   structured  RFC 9068 access tokens by ES256 or what a resource asks for, bound by DPoP or a certificate if asked
//   turning     the same, with keys that are replaced on demand
//   opaque      opaque tokens, bound or not, with introspection (RFC 7662) and revocation (RFC 7009)
//
// A control listener in the clear turns the keys, changes the secret of the client that introspects, and tells which
// requests each server was sent.
//
// Environment: KH_FOLDER (ca.pem, server.pem and server.key; the ready file issuers.json appears there).
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const path = require("node:path");
const { Provider } = require("oidc-provider");

const folder = process.env.KH_FOLDER;
const read = (name) => fs.readFileSync(path.join(folder, name));
const SCOPES = ["orders:read", "orders:write"];
const secret = () => crypto.randomBytes(24).toString("base64url");

function key(type, options) {
  return crypto.generateKeyPairSync(type, options).privateKey.export({ format: "jwk" });
}

// oidc-provider keeps its tokens in what its user gives it: here memory, which outlives a change of its configuration
function storage() {
  const kept = new Map();
  return class {
    constructor(model) {
      this.model = model;
    }
    async upsert(id, payload) {
      kept.set(`${this.model} ${id}`, payload);
    }
    async find(id) {
      return kept.get(`${this.model} ${id}`);
    }
    async destroy(id) {
      kept.delete(`${this.model} ${id}`);
    }
  };
}

class Issuer {
  constructor(format, keys) {
    Object.assign(this, { format, keys, requests: {}, adapter: storage() });
    this.secrets = { reader: secret(), stranger: secret(), introspector: secret() };
  }

  async start() {
    const tls = { key: read("server.key"), cert: read("server.pem"), ca: read("ca.pem") };
    const server = https.createServer({ ...tls, requestCert: true, rejectUnauthorized: false }, (request, response) => {
      const asked = `${request.method} ${new URL(request.url, this.url).pathname}`;
      this.requests[asked] = (this.requests[asked] ?? 0) + 1;
      this.callback(request, response);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.url = `https://127.0.0.1:${server.address().port}`;
    this.apply();
    return this;
  }

  // what a restart with a changed configuration would do
  apply() {
    this.callback = new Provider(this.url, {
      adapter: this.adapter,
      jwks: { keys: this.keys },
      clients: this.clients(),
      clientDefaults: { id_token_signed_response_alg: "ES256" },
      clientAuthMethods: ["client_secret_basic", "client_secret_post", "tls_client_auth"],
      scopes: SCOPES,
      extraTokenClaims: (context, token) => ({ tenant: token.clientId === "stranger" ? "umbrella" : "acme" }),
      ttl: { ClientCredentials: (context, token) => token.resourceServer?.accessTokenTTL ?? 600 },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        introspection: { enabled: true, allowedPolicy: (context, client) => client.clientId === "introspector" },
        revocation: { enabled: true },
        dPoP: { enabled: true },
        mTLS: {
          enabled: true,
          certificateBoundAccessTokens: true,
          tlsClientAuth: true,
          getCertificate: (context) => certificate(context)?.toString(),
          certificateAuthorized: (context) => context.socket.authorized,
          certificateSubjectMatches: (context, property, expected) =>
            property === "tls_client_auth_san_dns" && certificate(context).checkHost(expected) === expected,
        },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (context, indicator) => this.resource(indicator),
        },
      },
    }).callback();
  }

  clients() {
    const client = (id, more) => ({
      client_id: id, grant_types: ["client_credentials"], redirect_uris: [], response_types: [], ...more,
    });
    return [
      client("reader", { client_secret: this.secrets.reader }),
      client("stranger", { client_secret: this.secrets.stranger }),
      client("introspector", { client_secret: this.secrets.introspector, grant_types: [] }),
      client("machine", {
        token_endpoint_auth_method: "tls_client_auth",
        tls_client_auth_san_dns: "machine.example",
        tls_client_certificate_bound_access_tokens: true,
      }),
    ];
  }

  // the query of a resource's identifier says how its tokens shall be; its origin is their audience
  resource(indicator) {
    const { origin, searchParams } = new URL(indicator);
    const common = { scope: SCOPES.join(" "), audience: origin, accessTokenTTL: Number(searchParams.get("ttl") ?? 600) };
    if (this.format === "opaque") return { ...common, accessTokenFormat: "opaque" };
    return { ...common, accessTokenFormat: "jwt", jwt: { sign: { alg: searchParams.get("alg") ?? "ES256" } } };
  }
}

function certificate(context) {
  const { raw } = context.socket.getPeerCertificate();
  return raw && new crypto.X509Certificate(raw);
}

function turn(issuer, step) {
  const [newest, ...older] = issuer.keys;
  if (step === "add") issuer.keys = [key("ec", { namedCurve: "P-256" }), newest, ...older];
  else if (step === "remove") issuer.keys = [newest];
  else throw new Error(`no such step: ${step}`);
  issuer.apply();
}

async function main() {
  const es256 = () => key("ec", { namedCurve: "P-256" });
  const issuers = {
    structured: new Issuer("jwt", [
      es256(), key("ec", { namedCurve: "P-384" }), key("rsa", { modulusLength: 2048 }), key("ed25519"),
    ]),
    turning: new Issuer("jwt", [es256()]),
    opaque: new Issuer("opaque", [es256()]),
  };
  const control = http.createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://control");
    const issuer = issuers[searchParams.get("issuer")];
    if (pathname === "/turn") turn(issuer, searchParams.get("step"));
    else if (pathname === "/secret") {
      issuer.secrets.introspector = searchParams.get("value");
      issuer.apply();
    } else if (pathname !== "/requests") throw new Error(`no such control: ${pathname}`);
    response.end(JSON.stringify(issuer.requests));
  });
  await new Promise((resolve) => control.listen(0, "127.0.0.1", resolve));
  const ready = { control: `http://127.0.0.1:${control.address().port}`, issuers: {} };
  for (const [name, issuer] of Object.entries(issuers)) {
    const { url, secrets } = await issuer.start();
    ready.issuers[name] = { url, ...secrets };
  }
  fs.writeFileSync(path.join(folder, "issuers.tmp"), JSON.stringify(ready), { mode: 0o600 });
  fs.renameSync(path.join(folder, "issuers.tmp"), path.join(folder, "issuers.json"));
}

main().catch((caught) => {
  console.error(caught);
  process.exit(1);
});
