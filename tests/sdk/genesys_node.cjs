// The official Genesys Cloud JavaScript SDK, unmodified, through keyholder. Environment as in genesys_python.py; for
// https the private CA comes in by NODE_EXTRA_CA_CERTS.
const assert = require("node:assert");
const platform = require("purecloud-platform-client-v2");

const origin = new URL(process.env.KH_URL);
const direct = process.env.KH_SANDBOX === "1";
let steps = 0;
const step = (text) => console.log(`  node   ${String(++steps).padStart(2)}. ${text}`);

async function refused(status, call) {
  try {
    await call();
  } catch (error) {
    // this SDK rejects with the parsed error body itself
    assert.strictEqual(error.status, status, JSON.stringify(error));
    assert.ok(error.code && error.contextId && error.message, JSON.stringify(error));
    return error;
  }
  assert.fail(`expected a ${status}`);
}

async function main() {
  const client = platform.ApiClient.instance;
  const prefixed = process.env.KH_PREFIX === "1";
  client.setGateway({
    host: origin.hostname,
    protocol: origin.protocol.replace(":", ""),
    port: Number(origin.port),
    path_params_login: prefixed ? "/login/eu" : "",
    path_params_api: prefixed ? "api-path/" : "",
  });
  const login = await client.loginClientCredentialsGrant(process.env.KH_CLIENT_ID, process.env.KH_CLIENT_SECRET);
  assert.ok(direct || login.accessToken.startsWith("kht_"), "the application must hold a keyholder token");
  step("logged in");

  const tokens = new platform.TokensApi();
  await tokens.headTokensMe();
  assert.ok((await tokens.getTokensMe({ preserveIdleTTL: true })).OAuthClient.id);
  step("tokens/me describes the token");

  const routing = new platform.RoutingApi();
  const queue = await routing.postRoutingQueues({ name: "keyholder scenario", description: "created by the SDK" });
  assert.strictEqual(queue.name, "keyholder scenario");
  step("created a queue");
  assert.strictEqual((await routing.getRoutingQueue(queue.id)).id, queue.id);
  step("read it back");
  const changed = await routing.putRoutingQueue(queue.id, { name: "keyholder scenario", description: "changed" });
  assert.strictEqual(changed.description, "changed");
  step("updated it");

  const skills = [];
  for (let number = 0; number < 7; number++) skills.push(await routing.postRoutingSkills({ name: `skill ${number}` }));
  const seen = new Set();
  for (let page = 1; page <= 3; page++) {
    const listing = await routing.getRoutingSkills({ pageSize: 3, pageNumber: page });
    assert.strictEqual(listing.pageNumber, page);
    for (const entity of listing.entities) seen.add(entity.id);
  }
  assert.ok(seen.size >= 7, `${seen.size} distinct skills`);
  step("read three pages of a list");
  for (const skill of skills) await routing.deleteRoutingSkill(skill.id);
  step("deleted the skills");

  const address = await routing.postRoutingSmsAddresses({
    name: "office", street: "1 Main", city: "Berlin", region: "BE", postalCode: "10115", countryCode: "DE",
  });
  await routing.deleteRoutingSmsAddress(address.id);
  step("deleted with a 204");

  const missing = await refused(404, () => routing.getRoutingQueue("00000000-0000-0000-0000-00000000dead"));
  assert.strictEqual(missing.code, "not.found");
  step("an unknown queue is the platform's own 404");

  const outbound = new platform.OutboundApi();
  const list = await outbound.postOutboundContactlists({
    name: "upload", columnNames: ["Phone", "Note"], phoneColumns: [{ columnName: "Phone", type: "home" }],
  });
  const rows = Array.from({ length: 1800 }, (_, number) => ({
    contactListId: list.id, data: { Phone: `+4930${String(number).padStart(7, "0")}`, Note: "x".repeat(150) },
  }));
  await outbound.postOutboundContactlistContacts(list.id, rows);
  step("uploaded 1,800 contacts in one body");
  await outbound.postOutboundContactlistClear(list.id);
  step("a POST without a body");

  await new platform.AnalyticsApi().postAnalyticsConversationsDetailsQuery({
    interval: "2026-07-01T00:00:00Z/2026-07-02T00:00:00Z", paging: { pageSize: 25, pageNumber: 1 },
  });
  step("queried analytics");
  assert.ok((await new platform.OrganizationApi().getOrganizationsMe()).id);
  step("read the organisation");
  assert.ok((await new platform.UsersApi().getUsers({ pageSize: 25 })).entities);
  step("listed users");

  if (!direct) {
    const error = await refused(403, () => new platform.OAuthApi().postOauthClientSecret("00000000-0000-0000-0000-000000000001"));
    assert.ok(error.code.startsWith("keyholder."));
    step("regenerating a client secret is refused, and the SDK understands why");
  }

  await routing.deleteRoutingQueue(queue.id);
  await refused(404, () => routing.getRoutingQueue(queue.id));
  step("deleted the queue");
  await tokens.deleteTokensMe();
  await refused(401, () => routing.getRoutingSkills({}));
  step("revoked its own token");
  console.log(`node: ${steps} steps held`);
}

main().catch((error) => {
  console.error("failed:", error?.stack ?? JSON.stringify(error));
  process.exitCode = 1;
});
