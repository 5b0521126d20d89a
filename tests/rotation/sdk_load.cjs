// Calls through the official Genesys Cloud JavaScript SDK, unmodified, until its standard input ends. Environment and
// output as in sdk_load.py.
const platform = require("purecloud-platform-client-v2");

const WORKERS = 8;
const FIRST = 10;
const origin = new URL(process.env.KH_URL);
const pause = (WORKERS * 1000) / Number(process.env.KH_RATE);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let stop = false;
let calls = 0;
const failures = [];

async function work(users, number) {
  let due = performance.now() + (pause * number) / WORKERS;
  while (!stop) {
    try {
      const answer = await users.getUsers({ pageSize: 1 });
      if (!Array.isArray(answer.entities)) throw new Error("the answer has no entities");
    } catch (error) {
      failures.push(`${error.status ?? error.name}: ${JSON.stringify(error.message ?? error).slice(0, 300)}`);
    }
    calls += 1;
    if (calls === FIRST) console.log("started");
    due = Math.max(due + pause, performance.now());
    await sleep(Math.max(0, due - performance.now()));
  }
}

async function main() {
  const client = platform.ApiClient.instance;
  client.setGateway({
    host: origin.hostname,
    protocol: origin.protocol.replace(":", ""),
    port: Number(origin.port),
    path_params_login: "",
    path_params_api: "",
  });
  await client.loginClientCredentialsGrant(process.env.KH_CLIENT_ID, process.env.KH_CLIENT_SECRET);
  process.stdin.on("end", () => (stop = true)).resume();
  const users = new platform.UsersApi();
  const began = performance.now();
  await Promise.all(Array.from({ length: WORKERS }, (_, number) => work(users, number)));
  const seconds = (performance.now() - began) / 1000;
  console.log(JSON.stringify({ calls, seconds, failures: failures.length, examples: failures.slice(0, 3) }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
