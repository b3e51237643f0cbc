// Follow a Warren fleet on its bus, without Warren's libraries: @nats-io/transport-node and Node's own crypto.
//
//   node follow.mjs --nats tls://bus.example.net:4222 --ca warren-ca.pem --name grafana --token-file grafana.token \\
//     --root "$(warren trust --json | jq -r .root)" [--propose policy.json] [--after 1234] [--changes 10]
//
// The same as follow.py: it verifies the trust document by the pinned root key and a policy set by the key that the document names,
// proposes a policy (a dry run first), and prints each change of a tunnel as one JSON line, none lost and none twice.

import { createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { connect } from "@nats-io/transport-node";

const TUNNEL_EVENTS = "$JS.ACK.live.warren.v1.event.metrics.tunnel.>";
const ED25519_SPKI = Buffer.from("302a300506032b6570032100", "hex"); // RFC 8410: what comes before the 32 bytes of a key

class Refused extends Error {}

function show(what, fields) {
  console.log(JSON.stringify({ what, ...fields }));
}

// One RPC: JSON in, JSON out; an error is a problem document (RFC 9457).
async function call(client, subject, request) {
  const reply = await client.request(subject, JSON.stringify(request), { timeout: 5_000 });
  const answer = reply.json();
  if (reply.headers?.get("content-type") === "application/problem+json") {
    throw new Refused(answer.detail || answer.title);
  }
  return answer;
}

// The payload of a signed document; throws if this key (base64) did not sign it.
function verified(document, key) {
  const { subject, epoch, revision, payload } = document;
  const signed = ["warren-document-v1", subject, epoch, revision, payload].join("\n");
  const spki = Buffer.concat([ED25519_SPKI, Buffer.from(key, "base64")]);
  const publicKey = createPublicKey({ key: spki, format: "der", type: "spki" });
  if (!verify(null, Buffer.from(signed), publicKey, Buffer.from(document.signature, "base64"))) {
    throw new Refused(`the signature of ${subject} does not verify`);
  }
  return JSON.parse(payload);
}

async function verifiedKeys(client, root) {
  const reply = await call(client, "warren.v1.rpc.registry.trust", {});
  if (reply.trust.subject !== "warren.v1.trust") throw new Refused("this is no trust document");
  return verified(reply.trust, root);
}

// Print the policy set of a reader (`all`, `tag=<tag>`, `peer=<id>`): the stored one, and each that is published later.
async function followSet(client, reader, keys) {
  const subject = `warren.v1.policy.${reader}`;
  let newest = 0;
  const take = (document) => {
    if (document.subject !== subject || document.epoch !== keys.epoch) {
      throw new Refused(`this is not the current set of ${reader}`); // of a new epoch: read the keys again
    }
    const found = verified(document, keys.policy);
    if (document.revision <= newest) return;
    newest = document.revision;
    show("set", { reader, policies: found.policies.map((published) => published.policy.id) });
  };
  // A published message: its signature is in headers, and covers the subject on which it is stored.
  const live = (error, message) => {
    if (error) throw error;
    const { headers } = message;
    take({
      subject: headers.get("Nats-Subject"), epoch: Number(headers.get("Warren-Epoch")), payload: message.string(),
      revision: Number(headers.get("Warren-Revision")), signature: headers.get("Warren-Signature"),
    });
  };
  client.subscribe(`$JS.ACK.live.${subject}`, { callback: live });
  try {
    take(await call(client, "warren.v1.rpc.policy.published_set", { reader }));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    show("no set", { reader, detail: error.message });
  }
}

// Print what the policy would do to each tunnel, then store it.
async function propose(client, policy) {
  const tried = await call(client, "warren.v1.rpc.policy.apply", { policies: [policy], dry_run: true });
  show("proposed", { effects: tried.effects, warnings: tried.warnings });
  const stored = await call(client, "warren.v1.rpc.policy.apply", { policies: [policy] });
  show("stored", { revision: stored.revision, versions: stored.versions });
}

// Yields each stored event once and in order: the stored ones after `after`, then live ones, and after a reconnect those between.
async function* changes(client, after) {
  const queue = [{ missed: true }];
  let behind = false; // live events are dropped until the stored ones are read
  let wake = () => {};
  const put = (item) => (queue.push(item), wake());
  const miss = () => ((behind = true), put({ missed: true }));
  client.subscribe(TUNNEL_EVENTS, { callback: (error, message) => behind || put({ error, message }) });
  (async () => {
    for await (const { type } of client.status()) {
      if (type === "disconnect") behind = true;
      if (type === "reconnect" || type === "slowConsumer") miss();
    }
  })();
  await client.flush();
  while (true) {
    if (queue.length === 0) await new Promise((resolve) => (wake = resolve));
    const { error, message, missed } = queue.shift();
    if (error) throw error;
    if (missed) behind = false; // what arrives from now on is queued, and comes after the pages
    for (let more = missed; more; ) {
      const page = await call(client, "warren.v1.rpc.policy.events", { after, kind: "tunnel" });
      if (page.missed) show("missed", { after }); // they have expired: the list of tunnels has the state of now
      for (const stored of page.events) yield stored.event;
      ({ next_after: after, more } = page);
    }
    const sequence = Number(message?.headers.get("Nats-Sequence") ?? 0);
    if (sequence <= after) continue;
    after = sequence;
    yield { time: message.headers.get("ce-time"), sequence, data: message.json() };
  }
}

async function main(options) {
  const client = await connect({
    servers: options.nats.split(","),
    name: options.name,
    token: readFileSync(options["token-file"], "utf8").trim(),
    inboxPrefix: `_INBOX.op.${options.name}`,
    maxReconnectAttempts: -1,
    ...(options.ca ? { tls: { caFile: options.ca, handshakeFirst: true } } : {}),
  });
  try {
    const keys = await verifiedKeys(client, options.root);
    show("trusted", { epoch: keys.epoch });
    const start = await call(client, "warren.v1.rpc.policy.events", {});
    const followed = changes(client, options.after === undefined ? start.next_after : Number(options.after));
    for (const reader of options.reader ?? []) await followSet(client, reader, keys);
    if (options.propose) await propose(client, JSON.parse(readFileSync(options.propose, "utf8")));
    const listed = await call(client, "warren.v1.rpc.metrics.tunnels", {});
    show("tunnels", Object.fromEntries(listed.tunnels.map((tunnel) => [tunnel.name, tunnel.state])));
    let left = options.changes === undefined ? Infinity : Number(options.changes);
    while (left-- > 0) {
      const { value: event } = await followed.next();
      const { tunnel, peer, state, status } = event.data;
      show("changed", { sequence: event.sequence, at: event.time, tunnel, seen_by: peer, state, reason: status.reason });
    }
  } finally {
    await client.close();
  }
}

const { values } = parseArgs({
  options: {
    nats: { type: "string" }, ca: { type: "string" }, name: { type: "string" }, "token-file": { type: "string" },
    root: { type: "string" }, reader: { type: "string", multiple: true }, propose: { type: "string" },
    after: { type: "string" }, changes: { type: "string" },
  },
});
const absent = ["nats", "name", "token-file", "root"].filter((name) => values[name] === undefined);
if (absent.length) {
  console.error(`follow: give ${absent.map((name) => `--${name}`).join(", ")}`);
  process.exit(2);
}
main(values).catch((error) => {
  console.error(`follow: ${error.message}`);
  process.exit(1);
});
