// Tokens from a local keyholder broker, over loopback or its unix socket. Node 18 or newer.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

function ask(method, path, body) {
  const url = process.env.KEYHOLDER_URL;
  const place = url.startsWith("unix:")
    ? { socketPath: url.slice(5) }
    : { host: new URL(url).hostname.replace(/^\[|\]$/g, ""), port: new URL(url).port };
  const headers = { Host: "localhost" };
  if (process.env.KEYHOLDER_TOKEN_FILE) {
    headers["X-Keyholder-Token"] = readFileSync(process.env.KEYHOLDER_TOKEN_FILE, "ascii").trim();
  }
  return new Promise((resolve, reject) => {
    const request = http.request({ ...place, method, path, headers, timeout: 60_000 }, (answer) => {
      let content = "";
      answer.setEncoding("utf8").on("data", (part) => (content += part));
      answer.on("error", (cause) => reject(new Error("keyholder: the answer broke off", { cause })));
      answer.on("end", () => {
        try {
          const told = content ? JSON.parse(content) : undefined;
          answer.statusCode < 300 ? resolve(told) : reject(new Error(`keyholder: ${told?.detail ?? answer.statusCode}`));
        } catch (cause) {
          reject(new Error(`keyholder: ${answer.statusCode}, and no JSON`, { cause }));
        }
      });
    });
    request.on("error", reject).on("timeout", () => request.destroy(new Error("keyholder: no answer")));
    request.end(body);
  });
}

/** The token and where it is good for: `access_token`, `api_base`, `expires_in` and more. */
export const get = (profile, minTtl = 60) =>
  ask("GET", `/v1/token/${encodeURIComponent(profile)}?min_ttl=${minTtl}`);

/** The platform refused this token. Harmless when it is an old one. */
export const report = (profile, token) =>
  ask("POST", `/v1/token/${encodeURIComponent(profile)}/invalidate`,
    JSON.stringify({ sha256: createHash("sha256").update(token).digest("hex") }));

/** Fetches a path of the platform's API; a refused token is reported once. */
export async function call(profile, path) {
  for (let attempt = 1; ; attempt++) {
    const token = await get(profile);
    const answer = await fetch(token.api_base + path, { headers: { Authorization: `Bearer ${token.access_token}` } });
    if (answer.status !== 401 || attempt === 2) return answer;
    if ((await answer.clone().text()).includes("ip.not.authorized")) return answer;
    await report(profile, token.access_token);
  }
}

/** Calls the path of the first argument, and again for each line of standard input. */
async function main() {
  console.log((await call(process.env.KEYHOLDER_PROFILE, process.argv[2])).status);
  for await (const _ of createInterface({ input: process.stdin })) {
    console.log((await call(process.env.KEYHOLDER_PROFILE, process.argv[2])).status);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main();
