// Drives a real node with the two clients of Node.js, as they come: ioredis and node-redis.
//
// Usage: NODE_PATH=DIR/node_modules node .ci/node_clients.cjs BINARY
//
// Exit code 0: passed; anything else: failed, and it was said what.

const assert = require("node:assert");
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const crypto = require("node:crypto");
const net = require("node:net");
const Redis = require("ioredis");
const { createClient, RESP_TYPES } = require("redis");

const PATIENCE_MS = 20_000;
const BIG = crypto.randomBytes(10 << 20);
const ANY_BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

// A process of the node on a free port.
class Node {
  async begin(binary) {
    const probe = net.createServer().listen(0, "127.0.0.1");
    await once(probe, "listening");
    [this.binary, this.port] = [binary, probe.address().port];
    probe.close();
    await once(probe, "close");
    await this.start();
  }

  async start() {
    this.process = spawn(this.binary, ["--log-level", "off", String(this.port)], { stdio: "ignore" });
    for (const deadline = Date.now() + PATIENCE_MS; ; ) {
      const socket = net.connect(this.port, "127.0.0.1");
      try {
        await once(socket, "connect");
        return socket.destroy();
      } catch (error) {
        assert(Date.now() < deadline, `the node does not start: ${error}`);
      }
    }
  }

  async stop() {
    const ended = once(this.process, "exit");
    this.process.kill("SIGKILL");
    await ended;
  }
}

function check(what, seen, wanted) {
  assert.deepStrictEqual(seen, wanted, what);
  console.log(`ok: ${what}`);
}

async function ioredis(node) {
  const named = (what) => `ioredis: ${what}`;
  const client = new Redis(node.port, "127.0.0.1");
  client.on("error", () => {});
  await once(client, "ready");
  await client.set("k", "v");
  check(named("GET"), await client.get("k"), "v");
  await client.set(ANY_BYTES, BIG);
  check(named("any bytes and 10 MB"), BIG.equals(await client.getBuffer(ANY_BYTES)), true);
  check(named("options of SET"), await client.set("k", "w", "PX", 100_000, "NX"), null);
  check(named("counters"), [await client.incr("n"), await client.incrby("n", 9)], [1, 10]);
  const pipeline = client.pipeline();
  for (let number = 0; number < 1_000; number += 1) pipeline.set(`p:${number}`, number);
  const replies = await pipeline.exec();
  check(named("a pipeline"), replies.every(([error, reply]) => error === null && reply === "OK"), true);
  const found = new Set();
  for await (const keys of client.scanStream({ match: "p:*", count: 100 })) keys.forEach((key) => found.add(key));
  check(named("SCAN"), found.size, 1_000);
  check(named("MULTI"), await client.multi().set("m", 1).incr("m").exec(), [[null, "OK"], [null, 2]]);
  const listener = client.duplicate();
  await listener.subscribe("news");
  const heard = once(listener, "message");
  check(named("PUBLISH"), await client.publish("news", "hello"), 1);
  check(named("a message"), await heard, ["news", "hello"]);
  await listener.quit();
  await assert.rejects(client.call("NOTHING"), /^ReplyError: ERR unknown command 'NOTHING'/);
  console.log(`ok: ${named("an error")}`);
  await node.stop();
  await node.start();
  check(named("a reconnect"), [await client.set("after", 1), await client.get("after")], ["OK", "1"]);
  await client.quit();
}

async function nodeRedis(node, version) {
  const named = (what) => `node-redis, protocol ${version}: ${what}`;
  const client = createClient({ url: `redis://127.0.0.1:${node.port}`, RESP: version });
  client.on("error", () => {});
  await client.connect();
  const bytes = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  await client.set(ANY_BYTES, BIG);
  check(named("any bytes and 10 MB"), BIG.equals(await bytes.get(ANY_BYTES)), true);
  check(named("options of SET"), await client.set("k", "v", { PX: 100_000, NX: true }), "OK");
  check(named("an expiry"), [(await client.ttl("k")) > 90, await client.ttl("none")], [true, -2]);
  check(named("counters"), [await client.incr("n"), await client.incrBy("n", 9)], [1, 10]);
  const writes = Array.from({ length: 1_000 }, (_, number) => client.set(`p:${number}`, String(number)));
  check(named("a pipeline"), new Set(await Promise.all(writes)), new Set(["OK"]));
  const found = new Set();
  for await (const keys of client.scanIterator({ MATCH: "p:*", COUNT: 100 })) keys.forEach((key) => found.add(key));
  check(named("SCAN"), found.size, 1_000);
  check(named("MULTI"), await client.multi().set("m", "1").incr("m").exec(), ["OK", 2]);
  const listener = client.duplicate();
  listener.on("error", () => {});
  await listener.connect();
  let hear;
  const heard = new Promise((hears) => (hear = hears));
  await listener.subscribe("news", (message) => hear(message));
  check(named("PUBLISH"), await client.publish("news", "hello"), 1);
  check(named("a message"), await heard, "hello");
  listener.destroy();
  await assert.rejects(client.sendCommand(["NOTHING"]), /ERR unknown command 'NOTHING'/);
  console.log(`ok: ${named("an error")}`);
  await node.stop();
  const again = new Promise((comes) => client.once("ready", comes));
  await node.start();
  await again;
  check(named("a reconnect"), [await client.set("after", "1"), await client.get("after")], ["OK", "1"]);
  client.destroy();
}

async function main() {
  const node = new Node();
  await node.begin(process.argv[2]);
  try {
    await ioredis(node);
    for (const version of [2, 3]) {
      await node.stop();
      await node.start();
      await nodeRedis(node, version);
    }
  } finally {
    await node.stop();
  }
}

main();
