'use strict';
// node client.js TARGET CERTIFICATE|- SCENARIO
// Calls the service of server.js at host:port, over TLS when there is a
// certificate to trust; ends with status 0 when all was as it should be.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [target, certificate, scenario] = process.argv.slice(2);
const proto = grpc.loadPackageDefinition(
  loader.loadSync(path.join(__dirname, 'test.proto'), { defaults: true }));
const credentials = certificate === '-' ? grpc.credentials.createInsecure()
  : grpc.credentials.createSsl(fs.readFileSync(certificate));
const PATIENCE = Number(process.env.H2X_PATIENCE || 1);

function connect(options = {}) {
  return new proto.h2x.Test(target, credentials, {
    'grpc.max_receive_message_length': -1,
    // Each client has a connection of its own.
    'grpc.use_local_subchannel_pool': 1,
    ...options,
  });
}

let client = connect();
let names = 0;

const newName = () => `${process.pid}-${++names}`;
const soon = (seconds = 20) => ({
  deadline: Date.now() + seconds * 1000 * PATIENCE,
});

function metadata(fields) {
  const all = new grpc.Metadata();
  Object.entries(fields).forEach(([name, value]) => all.set(name, value));
  return all;
}

// A unary call: all that came back.
function ask(method, message, fields = {}, options = soon()) {
  return new Promise((resolve) => {
    const result = {};
    const call = client[method](message, metadata(fields), options,
      (error, answer) => {
        Object.assign(result, { error, answer });
        resolve(result);
      });
    call.on('metadata', (m) => { result.initial = m; });
    call.on('status', (s) => { result.status = s; });
    result.call = call;
  });
}

async function answer(method, message, fields) {
  const result = await ask(method, message, fields);
  assert.equal(result.error, null);
  return result.answer;
}

const raise = (gate) => answer('Raise', { text: gate });
const received = (name, number) =>
  answer('Received', { text: name, number });
const cancelled = (name) => answer('Cancelled', { text: name });

// What a call sends, one message after the other, and how it ended.
class Stream {
  constructor(call) {
    this.call = call;
    this.messages = [];
    this.waiting = null;
    this.status = new Promise((resolve) => call.on('status', resolve));
    call.on('metadata', (m) => { this.initial = m; });
    call.on('data', (m) => { this.messages.push(m); this.wake(); });
    call.on('error', () => this.wake());
    call.on('end', () => this.wake());
    this.ended = false;
    this.status.then(() => { this.ended = true; this.wake(); });
  }

  wake() {
    if (this.waiting) {
      this.waiting();
    }
  }

  async has(count) {
    while (this.messages.length < count && !this.ended) {
      await new Promise((resolve) => { this.waiting = resolve; });
    }
    assert.equal(this.messages.length, count);
    return this.messages[count - 1];
  }
}

const several = (message, fields = {}, options = soon()) =>
  new Stream(client.Several(message, metadata(fields), options));
const talk = (fields = {}, options = soon()) =>
  new Stream(client.Talk(metadata(fields), options));

function isFailure(status, code, text) {
  assert.equal(status.code, code);
  assert.equal(status.details, text);
  assert.deepEqual(status.metadata.get('x-reason'), ['asked for']);
  assert.deepEqual([...status.metadata.get('grpc-status-details-bin')[0]],
    [1, 2, 3, 0, 255]);
}

const UMLAUTS = 'not found: \u00e4\u00f6\u00fc 100 % \u20ac\nnext line';

const scenarios = {
  async unary() {
    assert.equal((await answer('Echo', { text: 'hello' })).text, 'hello');
    assert.deepEqual((await answer('Echo', {})).data.length, 0);
    for (const size of [1, 16384, 65536, 3000000]) {
      const data = Buffer.alloc(size, 'x');
      assert.ok((await answer('Echo', { data })).data.equals(data));
    }
  },

  async metadata() {
    const binary = Buffer.from([0, 1, 128, 255]);
    const result = await ask('Echo', { text: 'x' }, {
      'x-ask': 'some text', 'x-ask-bin': binary });
    assert.equal(result.error, null);
    assert.deepEqual(result.initial.get('x-answer'), ['some text']);
    assert.ok(result.initial.get('x-answer-bin')[0].equals(binary));
    assert.deepEqual(result.status.metadata.get('x-after'), ['some text']);
    assert.equal(result.status.code, grpc.status.OK);
  },

  // An error alone: status and details come in the only HEADERS frame.
  async errors() {
    for (const [code, text] of [[5, 'no such thing'], [3, UMLAUTS],
      [13, ''], [16, 'x'.repeat(1000)]]) {
      const result = await ask('Fail', { number: code, text });
      isFailure(result.status, code, text);
      assert.equal(result.error.code, code);
    }
    assert.equal((await answer('Echo', { text: 'still' })).text, 'still');
  },

  // Head and trailers, with no message between them: mod_proxy_http2 makes
  // one of them, which to a client is an error alone.
  async errorAfterMetadata() {
    const result = await ask('Fail', { number: 9, text: 'later' },
      { 'x-ask': 'head' });
    isFailure(result.status, 9, 'later');
    const head = result.initial || result.status.metadata;
    assert.deepEqual(head.get('x-answer'), ['head']);
    assert.deepEqual(result.status.metadata.get('x-after'), ['head']);
  },

  async serverStreaming() {
    const stream = several({ number: 1000 }, { 'x-ask': 'several' });
    const status = await stream.status;
    assert.equal(status.code, grpc.status.OK);
    assert.deepEqual(status.metadata.get('x-after'), ['several']);
    assert.deepEqual(stream.messages.map((m) => m.number),
      [...Array(1000).keys()]);
    const none = several({ number: 0 });
    assert.equal((await none.status).code, grpc.status.OK);
    assert.equal(none.messages.length, 0);
  },

  // The server sends the next message when this client has the one before.
  async serverOneByOne() {
    const gates = [...Array(5)].map(newName);
    const streams = gates.map((gate) => several({ number: 20 },
      { 'x-gate': gate }));
    for (let i = 1; i <= 20; i++) {
      for (const stream of streams) {
        await stream.has(i);
      }
      await Promise.all(gates.map(raise));
    }
    for (const stream of streams) {
      assert.equal((await stream.status).code, grpc.status.OK);
    }
  },

  async serverFailsHalfWay() {
    const stream = several({ number: 10 }, { 'x-fail': '10' });
    isFailure(await stream.status, 10, 'half-way');
    assert.equal(stream.messages.length, 10);
  },

  // The server has each message before the next one is sent.
  async clientStreaming() {
    const calls = [...Array(3)].map(newName).map((name) => {
      const one = { name };
      one.result = new Promise((resolve, reject) => {
        one.call = client.Collect(metadata({ 'x-name': name }), soon(),
          (error, result) => (error ? reject(error) : resolve(result)));
      });
      return one;
    });
    for (let i = 1; i <= 6; i++) {
      for (const { name, call } of calls) {
        call.write({ text: `${i},` });
        await received(name, i);
      }
    }
    calls.forEach(({ call }) => call.end());
    for (const { result } of calls) {
      assert.equal((await result).number, 6);
      assert.equal((await result).text, '1,2,3,4,5,6,');
    }
  },

  // Messages and their echoes in turn, on several calls at once.
  async bidirectional() {
    const streams = [...Array(8)].map(() => talk({ 'x-ask': 'talk' }));
    for (let i = 1; i <= 50; i++) {
      for (const stream of streams) {
        stream.call.write({ number: i });
      }
      for (const stream of streams) {
        assert.equal((await stream.has(i)).number, i);
      }
    }
    for (const stream of streams) {
      assert.ok(!stream.ended);
      stream.call.end();
      const status = await stream.status;
      assert.equal(status.code, grpc.status.OK);
      assert.deepEqual(status.metadata.get('x-after'), ['talk']);
    }
  },

  // More both ways than windows hold: 20 MB up, and down.
  async bidirectionalLarge() {
    const data = Buffer.alloc(100000, 'x');
    const streams = [...Array(4)].map(() => talk());
    for (let i = 0; i < 50; i++) {
      for (const { call } of streams) {
        if (!call.write({ number: i, data })) {
          await new Promise((resolve) => call.once('drain', resolve));
        }
      }
    }
    for (const stream of streams) {
      stream.call.end();
      assert.equal((await stream.status).code, grpc.status.OK);
      assert.deepEqual(stream.messages.map((m) => m.number),
        [...Array(50).keys()]);
      assert.ok(stream.messages.every((m) => m.data.equals(data)));
    }
  },

  // The client gives up; the server is told, also of the deadline itself.
  async deadline() {
    const name = newName();
    const result = await ask('Wait', {}, { 'x-name': name }, soon(0.5));
    assert.equal(result.status.code, grpc.status.DEADLINE_EXCEEDED);
    const { number } = await cancelled(name);
    assert.ok(number > 0 && number <= 500 * PATIENCE, `deadline ${number}`);
    const other = newName();
    const stream = several({ number: 2 }, { 'x-gate': newName(),
      'x-name': other }, soon(0.5));
    await stream.has(1);
    assert.equal((await stream.status).code,
      grpc.status.DEADLINE_EXCEEDED);
    await cancelled(other);
  },

  // While the server works on an answer. mod_proxy_http2 then waits for that
  // alone: it looks after its client when ProxyTimeout is over.
  async cancelWaiting() {
    const name = newName();
    const call = client.Wait({}, metadata({ 'x-name': name }), soon(),
      () => {});
    const ended = new Promise((resolve) => call.on('status', resolve));
    await received(name, 1);
    call.cancel();
    assert.equal((await ended).code, grpc.status.CANCELLED);
    let told = await ask('Cancelled', { text: name });
    if (told.error) { // ProxyTimeout was over for the question first
      assert.equal(told.error.code, grpc.status.UNAVAILABLE);
      told = await ask('Cancelled', { text: name });
    }
    assert.ok(told.answer.number > 0);
  },

  // While messages go to and fro.
  async cancellation() {
    const talking = newName();
    const stream = talk({ 'x-name': talking });
    stream.call.write({ number: 1 });
    await stream.has(1);
    stream.call.cancel();
    assert.equal((await stream.status).code, grpc.status.CANCELLED);
    assert.ok((await cancelled(talking)).number > 0);

    const sending = newName();
    const endless = several({ number: 1e9, data: Buffer.alloc(10000) },
      { 'x-name': sending });
    await received(sending, 100);
    endless.call.cancel();
    await cancelled(sending);
    assert.equal((await answer('Echo', { text: 'still' })).text, 'still');
  },

  // The whole connection goes, with calls on it.
  async clientCloses() {
    const name = newName();
    const stream = talk({ 'x-name': name });
    stream.call.write({ number: 1 });
    await stream.has(1);
    client.close();
    stream.call.cancel();
    client = connect();
    await cancelled(name);
  },

  async manyCalls() {
    const results = [];
    for (let i = 0; i < 300; i += 60) {
      results.push(...await Promise.all([...Array(60).keys()].map((j) =>
        answer('Echo', { number: i + j, data: Buffer.alloc(2000) }))));
    }
    assert.deepEqual(results.map((r) => r.number), [...Array(300).keys()]);
  },

  async compressed() {
    client = connect({ 'grpc.default_compression_algorithm': 2 });
    const text = 'compress me '.repeat(10000);
    assert.equal((await answer('Echo', { text })).text, text);
    const stream = talk();
    for (let i = 1; i <= 5; i++) {
      stream.call.write({ text });
      assert.equal((await stream.has(i)).text, text);
    }
    stream.call.end();
    assert.equal((await stream.status).code, grpc.status.OK);
  },

  // PINGs while nothing else is said.
  async keepalive() {
    client = connect({ 'grpc.keepalive_time_ms': 100,
      'grpc.keepalive_timeout_ms': 5000,
      'grpc.keepalive_permit_without_calls': 1 });
    const stream = talk();
    stream.call.write({ number: 1 });
    await stream.has(1);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    stream.call.write({ number: 2 });
    await stream.has(2);
    stream.call.end();
    assert.equal((await stream.status).code, grpc.status.OK);
  },

  // A service that is not there is an error, and not of this client's.
  async noServer() {
    const result = await ask('Echo', { text: 'x' });
    assert.equal(result.error.code, grpc.status.UNAVAILABLE);
  },

  // Holds a call until its server is gone: told by a line on stdout.
  async serverGoes() {
    const stream = talk();
    stream.call.write({ number: 1 });
    await stream.has(1);
    process.stdout.write('talking\n');
    const status = await stream.status;
    assert.ok([grpc.status.UNAVAILABLE, grpc.status.INTERNAL,
      grpc.status.CANCELLED, grpc.status.UNKNOWN].includes(status.code),
    `status ${status.code}`);
  },
};

scenarios[scenario]().then(() => {
  client.close();
  process.exit(0);
}, (error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
