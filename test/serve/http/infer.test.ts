/** Inference requests over real connections, and an engine that answers when the test says. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { type HostPtr, viewMemory } from '../../../src/ffi/host-memory.ts';
import { openBackend } from '../../../src/index.ts';
import { SlotArena } from '../../../src/serve/engine/arena.ts';
import {
  type Answered,
  type Outcome,
  type PostedRequest,
  postAnswer,
  readRequest,
  TO_ENGINE,
} from '../../../src/serve/engine/messages.ts';
import { Bell, RingReader, RingWriter, ringMemory } from '../../../src/serve/engine/ring.ts';
import { inferOverHttp } from '../../../src/serve/http/infer.ts';
import type { InferAnswer } from '../../../src/serve/protocol/answer.ts';
import { BatchMemory } from '../../../src/serve/records/batch-memory.ts';
import { mergeRecords } from '../../../src/serve/records/merge.ts';
import { RecordModel, type RecordShape } from '../../../src/serve/records/record-model.ts';
import { type EngineQueues, Engines } from '../../../src/serve/requests/engine-lines.ts';
import { type Ended, InferModel, Refused } from '../../../src/serve/requests/infer-model.ts';
import { httpPair, postHead, type ServerSide } from '../../support/http-pairs.ts';
import { protocolBody, type SentBody } from '../../support/infer-bodies.ts';
import { f32, feature, i32, i64, inputsOf } from '../../support/request-tensors.ts';

const OUTPUTS = [
  { name: 'pair', width: 2 },
  { name: 'one', width: 1 },
];
const SHAPE: RecordShape = {
  tables: [
    { name: 'a', rows: 10, pruned: false, takesWeights: true },
    { name: 'b', rows: 10, pruned: false, takesWeights: true },
  ],
  denseFeatures: 1,
};
const SERVED = {
  name: 'm',
  version: '1',
  inputs: inputsOf([feature('a'), feature('b')], ['x']),
  tableRows: [10, 10],
  outputs: OUTPUTS,
};
const ENTRIES = 8;
const ARENA = 1 << 20;
const word = () => new SharedArrayBuffer(4);

/** Two copies of the model, whose ends of the lines the test holds. */
interface Front extends AsyncDisposable {
  readonly arena: SlotArena;
  readonly model: InferModel;
  /** Sends a request; `infer` has begun when it resolves. */
  send(body: SentBody | string, query?: string): Promise<Sent>;
  /** What an engine has been sent: requests, and tickets of those that were given up. */
  read(engine: number): Promise<(PostedRequest | number)[]>;
  answer(engine: number, ticket: number, outcome: Outcome): void;
}

interface Sent {
  readonly client: Socket;
  readonly side: ServerSide;
  readonly answered: Promise<InferAnswer | undefined>;
  readonly told: readonly Ended[];
}

interface FrontOptions {
  readonly slaMs?: number;
  readonly outputs?: typeof OUTPUTS;
  /** Clients go away while their requests are read. */
  readonly gone?: boolean;
}

async function front({ slaMs, outputs = OUTPUTS, gone = false }: FrontOptions = {}): Promise<Front> {
  const arena = new SlotArena(ARENA);
  const bell = word();
  const queues = [0, 1].map((): EngineQueues => {
    return { requests: ringMemory(ENTRIES), answers: ringMemory(ENTRIES), bell: word(), load: word() };
  });
  const engines = new Engines(bell, ENTRIES);
  const receiving = engines.receive();
  const model = new InferModel(
    { served: { ...SERVED, outputs }, shape: SHAPE, queues, isCompiled: false, pollMs: 0 },
    engines,
    100_000,
  );
  const begun = new WeakMap<object, Omit<Sent, 'client' | 'side'>>();
  let query = '';
  const pair = await httpPair(({ request, response }) => {
    const told: Ended[] = [];
    const tell = (ended: Ended) => told.push(ended);
    const answered = inferOverHttp(() => model, request, response, query, { arena, slaMs, tell });
    answered.catch(() => {});
    begun.set(request, { answered, told });
    if (gone) Object.defineProperty(response, 'destroyed', { value: true });
  });
  return {
    arena,
    model,
    async send(body, asked = '') {
      query = asked;
      const { body: bytes, jsonLength } =
        typeof body === 'string' ? { body: Buffer.from(body), jsonLength: undefined } : body;
      const client = await pair.connect();
      client.write(
        postHead({
          'content-length': bytes.length,
          ...(jsonLength === undefined ? {} : { 'inference-header-content-length': jsonLength }),
        }),
      );
      client.write(bytes);
      const side = await pair.next();
      return { client, side, ...(begun.get(side.request) as Omit<Sent, 'client' | 'side'>) };
    },
    async read(engine) {
      const own = queues[engine] as EngineQueues;
      const [bellOfEngine, reader] = [new Bell(own.bell), new RingReader(own.requests)];
      const messages: (PostedRequest | number)[] = [];
      for (;;) {
        bellOfEngine.look();
        reader.drain((entries, place) => {
          const isRequest = entries[place] === TO_ENGINE.request;
          messages.push(isRequest ? readRequest(entries, place, 0) : (entries[place + 1] as number));
        });
        if (messages.length > 0) return messages;
        assert.notEqual(await bellOfEngine.wait(10_000), 'timed-out', 'nothing is posted');
      }
    },
    answer(engine, ticket, outcome) {
      const answered: Answered = {
        ticket,
        outcome,
        retryAfterMs: 250,
        queueMs: 1,
        mergeMs: 2,
        computeMs: 3,
        copyMs: 4,
        endedMs: 6,
      };
      postAnswer(new RingWriter((queues[engine] as EngineQueues).answers), answered);
      new Bell(bell).ring();
    },
    async [Symbol.asyncDispose]() {
      await pair[Symbol.asyncDispose]();
      engines.stop();
      await receiving;
      assert.equal(arena.used, 0, 'every slot is given back');
      assert.equal(engines.waiting, 0);
      arena[Symbol.dispose]();
    },
  };
}

const tensors = (xs: readonly number[]) => ({
  dense: f32([xs.length, 1], [...xs]),
  values: i64([2 * xs.length], [...xs.keys(), ...xs.keys()]),
  lengths: i32([2, xs.length], Array(2 * xs.length).fill(1)),
});
const inBytes = (xs: readonly number[], parameters: object = {}) =>
  protocolBody(tensors(xs), { extra: { parameters } });
const inJson = (xs: readonly number[]) => protocolBody(tensors(xs), { inJson: () => true });

async function postedTo(to: Front, engine = 0): Promise<PostedRequest> {
  const [posted] = await to.read(engine);
  assert.ok(typeof posted === 'object');
  return posted;
}

/** What becomes of a request that no engine may see. */
const unposted = (to: Front, answered: Promise<unknown>) =>
  Promise.race([answered, to.read(0).then(() => assert.fail('it was posted'))]);

/** What a slot's record says. */
function recordAt({ slotAddress }: PostedRequest) {
  const model = new RecordModel(SHAPE);
  using backend = openBackend({ device: 'cpu' }).backend;
  using memory = new BatchMemory(backend);
  const { request } = mergeRecords(model, [BigInt(slotAddress) as HostPtr], memory);
  return { dense: [...request.dense], indices: request.bags.map(({ indices }) => [...indices].map(Number)) };
}

function writeOutputs({ outputAddress, samples }: PostedRequest): void {
  const outputs = new Float32Array(viewMemory(BigInt(outputAddress) as HostPtr, 12 * samples));
  for (let i = 0; i < 3 * samples; i++) outputs[i] = i + 0.5;
}

const EXPECTED = {
  model_name: 'm',
  model_version: '1',
  outputs: [
    { name: 'pair', datatype: 'FP32', shape: [2, 2], data: [0.5, 1.5, 2.5, 3.5] },
    { name: 'one', datatype: 'FP32', shape: [2, 1], data: [4.5, 5.5] },
  ],
};

for (const [form, make] of [
  ['bytes', inBytes],
  ['JSON', inJson],
] as const)
  test(`a request in ${form} is posted as a checked record, and answered with its outputs`, async () => {
    await using to = await front();
    const { answered, told, side } = await to.send(make([3, 4]));
    const posted = await postedTo(to);
    assert.deepEqual(recordAt(posted), {
      dense: [3, 4],
      indices: [
        [0, 1],
        [0, 1],
      ],
    });
    assert.deepEqual([posted.samples, posted.deadlineMs, posted.priority], [2, Number.POSITIVE_INFINITY, 4]);
    assert.ok(to.arena.used > 0);
    assert.equal(to.model.waiting, 1);
    writeOutputs(posted);
    const listeners = side.response.listenerCount('close');
    to.answer(0, posted.ticket, 'done');
    assert.deepEqual(JSON.parse(String((await answered)?.body)), EXPECTED);
    assert.equal(side.response.listenerCount('close'), listeners - 1);
    assert.equal(to.arena.used, 0);
    const { samples, bodyBytes, answered: last, answerMs = -1 } = told.at(-1) as Ended;
    assert.deepEqual([samples, bodyBytes, last?.outcome], [2, make([3, 4]).body.length, 'done']);
    assert.ok(answerMs >= 0);
    assert.equal(told[0]?.answered, undefined, 'what is known of it is told before it is posted');
  });

const WIDE = [{ name: 'wide', width: 50 }];

test('outputs that are larger than their request have a slot of their own', async () => {
  await using to = await front({ outputs: WIDE });
  const { answered } = await to.send(inBytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
  const posted = await postedTo(to);
  assert.notEqual(posted.outputAddress, posted.slotAddress);
  const expected = Array.from({ length: 500 }, (_, i) => i + 0.5);
  new Float32Array(viewMemory(BigInt(posted.outputAddress) as HostPtr, 2000)).set(expected);
  assert.equal(recordAt(posted).dense.length, 10, 'they do not lie over the record');
  to.answer(0, posted.ticket, 'done');
  const { outputs } = JSON.parse(String((await answered)?.body));
  assert.deepEqual(outputs[0].data, expected);
});

test('a request without samples is answered by itself', async () => {
  await using to = await front();
  const { answered, told } = await to.send(inBytes([]));
  const { outputs } = JSON.parse(String((await answered)?.body));
  assert.deepEqual(
    outputs.map(({ shape }: { shape: number[] }) => shape),
    [
      [0, 2],
      [0, 1],
    ],
  );
  assert.equal(told.length, 1);
  assert.equal(to.model.waiting, 0);
});

test('the slot of a client that goes away stays until the engine has answered; it is given up once', async () => {
  await using to = await front();
  for (const outcome of ['cancelled', 'done', 'failed'] as const) {
    const { client, side, answered } = await to.send(inBytes([3, 4]));
    const posted = await postedTo(to);
    const { used } = to.arena;
    client.destroy();
    assert.deepEqual(await to.read(0), [posted.ticket]);
    side.response.emit('close');
    side.response.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(to.arena.used, used, 'the engine may still read it');
    assert.deepEqual(recordAt(posted).dense, [3, 4]);
    to.answer(0, posted.ticket, outcome);
    if (outcome === 'failed') await assert.rejects(answered);
    else assert.equal((await answered) === undefined, outcome === 'cancelled');
    assert.equal(to.arena.used, 0);
    assert.equal(side.response.listenerCount('close'), 0, 'no listener is left behind');
  }
});

test('the request of a client that has gone already is not posted', async () => {
  await using to = await front({ gone: true });
  const { answered } = await to.send(inBytes([3, 4]));
  const posted = to.read(0).catch(() => {});
  assert.equal(await Promise.race([answered, posted]), undefined);
  assert.equal(to.model.waiting, 0);
  assert.equal(to.arena.used, 0);
});

test('each outcome is an answer or an error of its own', async () => {
  await using to = await front();
  for (const [outcome, code] of [
    ['late', 'DEADLINE_EXCEEDED'],
    ['unmeetable', 'DEADLINE_UNMEETABLE'],
    ['overloaded', 'OVERLOADED'],
    ['failed', undefined],
  ] as const) {
    const { answered } = await to.send(inBytes([3]));
    const { ticket } = await postedTo(to);
    to.answer(0, ticket, outcome);
    await assert.rejects(answered, (error: Error) => {
      const isRefusal = error instanceof Refused;
      assert.equal(isRefusal, outcome === 'unmeetable' || outcome === 'overloaded');
      if (isRefusal) assert.equal(error.retryAfterMs, 250);
      const cause = (isRefusal ? error.error : error) as Error & { code?: string };
      assert.equal(cause.code, code);
      return true;
    });
    assert.equal(to.arena.used, 0);
  }
});

test('a bad request is refused alone, and nothing is posted', async () => {
  await using to = await front();
  const bad = { ...tensors([1, 2]), values: i64([4], [0, 1, 10, 1]) };
  for (const [body, code] of [
    ['{', 'JSON_INVALID'],
    ['{"inputs":[]}', 'TENSOR_MISSING'],
    [protocolBody(bad), 'INDEX_OUT_OF_RANGE'],
    [protocolBody(bad, { inJson: () => true }), 'INDEX_OUT_OF_RANGE'],
    [protocolBody(tensors([1]), { extra: { outputs: [{ name: 'none' }] } }), 'OUTPUT_UNKNOWN'],
  ] as const) {
    const { answered } = await to.send(body);
    await assert.rejects(unposted(to, answered), { code });
    assert.equal(to.arena.used, 0);
    assert.equal(to.model.waiting, 0);
  }
});

test('where no memory is left for a record or for outputs, the request is refused', async () => {
  for (const { body, outputs } of [
    { body: inJson([1, 2]), outputs: OUTPUTS },
    { body: inBytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), outputs: WIDE },
  ]) {
    await using to = await front({ outputs });
    // The body itself fits: header, body, and 64 bytes behind it.
    const held = to.arena.take(ARENA - 64 * Math.ceil((128 + body.body.length + 64) / 64));
    assert.ok(held !== undefined);
    const { used } = to.arena;
    await assert.rejects(unposted(to, (await to.send(body)).answered), {
      code: 'OVERLOADED',
      message: new RegExp(`take ${ARENA} of the ${ARENA} bytes`),
    });
    assert.equal(to.arena.used, used);
    assert.equal(to.model.waiting, 0);
    to.arena.give(held);
  }
});

test('requests beyond what the queues take are refused', async () => {
  await using to = await front();
  const sent: { ticket: number; engine: number; answered: Promise<unknown> }[] = [];
  // Half of the entries, of each copy, in turn: the one with least to do gets the next.
  for (let n = 0; n < ENTRIES; n++) {
    const { answered } = await to.send(inBytes([n]));
    sent.push({ engine: n % 2, ticket: (await postedTo(to, n % 2)).ticket, answered });
  }
  await assert.rejects((await to.send(inBytes([9]))).answered, { code: 'OVERLOADED' });
  for (const { engine, ticket } of sent) to.answer(engine, ticket, 'done');
  await Promise.all(sent.map(({ answered }) => answered));
});

test('a request goes to the copy that has fewest samples', async () => {
  await using to = await front();
  const first = await to.send(inBytes([1, 2, 3]));
  const [a] = [await postedTo(to, 0)];
  const second = await to.send(inBytes([1]));
  const b = await postedTo(to, 1);
  const third = await to.send(inBytes([2]));
  const c = await postedTo(to, 1);
  to.answer(0, a.ticket, 'done');
  await first.answered;
  const fourth = await to.send(inBytes([2]));
  const d = await postedTo(to, 0);
  for (const [engine, { ticket }] of [
    [1, b],
    [1, c],
    [0, d],
  ] as const)
    to.answer(engine, ticket, 'done');
  await Promise.all([second, third, fourth].map(({ answered }) => answered));
});

test('deadlines count from the arrival, as the request says or else the server; priorities are levels', async () => {
  await using to = await front({ slaMs: 50 });
  for (const [parameters, ms, priority] of [
    [{}, 50, 4],
    [{ timeout: 2500 }, 2.5, 4],
    [{ timeout: 0, priority: 1 }, 50, 1],
    [{ priority: 7 }, 50, 7],
    [{ priority: 4_000_000 }, 50, 8],
  ] as const) {
    const { answered } = await to.send(inBytes([1], parameters));
    const posted = await postedTo(to);
    assert.ok(Math.abs(posted.deadlineMs - posted.arrivedMs - ms) < 1e-3);
    assert.equal(posted.priority, priority);
    to.answer(0, posted.ticket, 'done');
    await answered;
  }
});
