'use strict';
// A gRPC server on a loopback port of its own, which it prints. It ends with
// its standard input.

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const proto = grpc.loadPackageDefinition(
  loader.loadSync(path.join(__dirname, 'test.proto')));

// What calls tell each other: name -> number, and who waits for it.
class Board {
  constructor() {
    this.numbers = new Map();
    this.waiting = [];
  }

  get(name) {
    return this.numbers.get(name) || 0;
  }

  add(name, by = 1) {
    this.numbers.set(name, this.get(name) + by);
    const now = this.waiting.filter((w) => this.get(w.name) >= w.number);
    this.waiting = this.waiting.filter((w) => !now.includes(w));
    now.forEach((w) => w.resolve());
  }

  reaches(name, number) {
    if (this.get(name) >= number) {
      return Promise.resolve();
    }
    return new Promise((resolve) =>
      this.waiting.push({ name, number, resolve }));
  }
}

const gates = new Board();
const received = new Board();
const cancelled = new Board();
const deadlines = new Map();

const field = (call, name) => {
  const value = call.metadata.get(name)[0];
  return value === undefined ? '' : value.toString();
};

// Notes the end of a call that its client did not wait for.
function watch(call) {
  const name = field(call, 'x-name');
  const deadline = call.getDeadline();
  if (name) {
    deadlines.set(name, Number.isFinite(Number(deadline))
      ? Math.round(Number(deadline) - Date.now()) : 0);
    call.on('cancelled', () => cancelled.add(name));
  }
  return name;
}

function answerMetadata(call) {
  const ask = call.metadata.get('x-ask')[0];
  const bin = call.metadata.get('x-ask-bin')[0];
  if (ask !== undefined) {
    const initial = new grpc.Metadata();
    initial.set('x-answer', ask);
    if (bin !== undefined) {
      initial.set('x-answer-bin', bin);
    }
    call.sendMetadata(initial);
  }
  const after = new grpc.Metadata();
  if (ask !== undefined) {
    after.set('x-after', ask);
  }
  return after;
}

function failure(code, text, after) {
  const metadata = after || new grpc.Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from([1, 2, 3, 0, 255]));
  metadata.set('x-reason', 'asked for');
  return { code, details: text, metadata };
}

const service = {
  Echo(call, callback) {
    callback(null, call.request, answerMetadata(call));
  },

  Fail(call, callback) {
    const after = answerMetadata(call);
    callback(failure(call.request.number, call.request.text, after));
  },

  async Several(call) {
    const name = watch(call);
    const gate = field(call, 'x-gate');
    const after = answerMetadata(call);
    const gone = new Promise((resolve) => call.once('cancelled', resolve));
    for (let i = 0; i < call.request.number && !call.cancelled; i++) {
      if (gate && i) {
        await gates.reaches(gate, i);
      }
      const room = call.write({ number: i, data: call.request.data });
      received.add(name);
      if (!room) {
        await Promise.race([gone, new Promise((resolve) =>
          call.once('drain', resolve))]);
      }
    }
    const fail = Number(field(call, 'x-fail'));
    if (fail) {
      call.emit('error', failure(fail, 'half-way', after));
    } else {
      call.end(after);
    }
  },

  Collect(call, callback) {
    const name = watch(call);
    const parts = [];
    let bytes = 0;
    call.on('data', (message) => {
      parts.push(message.text || '');
      bytes += message.data ? message.data.length : 0;
      received.add(name);
    });
    call.on('end', () => callback(null, {
      text: parts.join(''), number: parts.length,
      data: Buffer.from(String(bytes)),
    }));
  },

  Talk(call) {
    const name = watch(call);
    const after = answerMetadata(call);
    call.on('data', (message) => {
      received.add(name);
      if (!call.write(message)) {
        call.pause();
        call.once('drain', () => call.resume());
      }
    });
    call.on('end', () => call.end(after));
  },

  Wait(call) {
    watch(call);
    received.add(field(call, 'x-name'));
  },

  Raise(call, callback) {
    gates.add(call.request.text);
    callback(null, {});
  },

  async Received(call, callback) {
    await received.reaches(call.request.text, call.request.number);
    callback(null, {});
  },

  async Cancelled(call, callback) {
    await cancelled.reaches(call.request.text, 1);
    callback(null, { number: deadlines.get(call.request.text) });
  },
};

const server = new grpc.Server({ 'grpc.max_receive_message_length': -1 });
server.addService(proto.h2x.Test.service, service);
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(),
  (error, port) => {
    if (error) {
      throw error;
    }
    process.stdout.write(`${port}\n`);
  });
process.stdin.on('end', () => process.exit(0)).resume();
