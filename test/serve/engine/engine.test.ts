/** An engine over a model that answers when the test lets it, and over small models on the CPU. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend } from '../../../src/backend/backend.ts';
import { deferred } from '../../../src/deferred.ts';
import { CudaError } from '../../../src/errors.ts';
import { viewMemory } from '../../../src/ffi/host-memory.ts';
import { DlrmModel, openBackend } from '../../../src/index.ts';
import type { ModelArchitecture } from '../../../src/model/architecture.ts';
import { namedOutputs, outputArrays, type Prediction } from '../../../src/model/prediction.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import { Batcher, type BatcherOptions, type Waiting } from '../../../src/serve/batching/batcher.ts';
import { LatencyModel, type Measured } from '../../../src/serve/batching/latency-model.ts';
import { type Slot, SlotArena } from '../../../src/serve/engine/arena.ts';
import {
  type BatchTimes,
  Engine,
  type EngineEvents,
  type EngineModel,
  type Job,
} from '../../../src/serve/engine/engine.ts';
import type { Outcome } from '../../../src/serve/engine/messages.ts';
import { appendedBytes, appendRequest } from '../../../src/serve/records/append-request.ts';
import { checkRecord } from '../../../src/serve/records/check-record.ts';
import { RecordModel, recordShape } from '../../../src/serve/records/record-model.ts';
import { branchingModel, INTERACTIONS, smallModel, smallRequest, tablesModel } from '../../support/models.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';

const NEVER = Number.POSITIVE_INFINITY;
const FROM = [0, 1];
const ARENA = 1 << 20;

/** The policy on a clock that stands until the test moves it. */
class ClockedBatcher<R extends Waiting> extends Batcher<R> {
  ms = 1000;
  override offer(request: R) {
    return super.offer(request, this.ms);
  }
  override take() {
    return super.take(this.ms);
  }
  override takeFromMs() {
    return super.takeFromMs(this.ms);
  }
  override ran(samples: number, ms: number) {
    super.ran(samples, ms, this.ms);
  }
  override failed() {
    super.failed(this.ms);
  }
}

/** Knows what it was told at first: how long batches of the test take changes nothing. */
class StillLatency extends LatencyModel {
  constructor(warmUp: readonly Measured[] = []) {
    super({ capacityOf: (samples) => samples, warmUp });
  }
  override observe(samples: number, ms: number) {
    assert.ok(samples > 0 && ms >= 0);
  }
}

/** Outputs of two widths, in an order that objects do not keep: [x, −x] and [2 x] of the dense feature x. */
const OUTPUTS = [
  { name: 'pair', vectors: [2], width: 2 },
  { name: '7', vectors: [1], width: 1 },
];
const expected = (xs: readonly number[]) => [...xs.flatMap((x) => [x, -x]), ...xs.map((x) => 2 * x)];

interface Call {
  readonly request: DlrmRequest;
  readonly answer: () => void;
  readonly fail: (error: unknown) => void;
}

class HeldModel implements EngineModel {
  readonly head = { answer: 'outputs' as const, outputs: OUTPUTS };
  readonly architecture = {};
  readonly calls: Call[] = [];

  predict(request: DlrmRequest): Promise<Prediction> {
    return new Promise((resolve, reject) => {
      const answer = () => {
        const pair = Float32Array.from([...request.dense].flatMap((x) => [x, -x]));
        const outputs = { '7': request.dense.map((x) => 2 * x), pair };
        resolve({ outputs, latencyMs: 0 } as unknown as Prediction);
      };
      this.calls.push({ request, answer, fail: reject });
    });
  }
}

/** A backend whose memory is counted. */
function countedBackend() {
  const { backend } = openBackend({ device: 'cpu' });
  let live = 0;
  const counted: Pick<Backend, 'allocateHost'> & Disposable & { live(): number } = {
    allocateHost(bytes) {
      const memory = backend.allocateHost(bytes);
      live++;
      return {
        int32: (elements: number) => memory.int32(elements),
        [Symbol.dispose]() {
          live--;
          memory[Symbol.dispose]();
        },
      } as ReturnType<Backend['allocateHost']>;
    },
    live: () => live,
    [Symbol.dispose]: () => backend[Symbol.dispose](),
  };
  return counted;
}

interface Posted {
  readonly from?: number;
  readonly ticket: number;
  readonly deadlineMs?: number;
  readonly priority?: number;
  /** Its record is not checked, so that it cannot be merged. */
  readonly broken?: boolean;
}

/** An engine, arenas of the threads that requests come from, and what the engine said. */
class Bench implements Disposable {
  readonly records: RecordModel;
  readonly batcher: ClockedBatcher<Job>;
  readonly engine: Engine;
  readonly log: string[] = [];
  readonly times = new Map<number, BatchTimes>();
  readonly errors: unknown[] = [];
  readonly refusals: number[] = [];
  freed = 0;
  readonly #arenas = FROM.map(() => new SlotArena(ARENA));

  constructor(
    model: EngineModel & { readonly architecture: Partial<ModelArchitecture> },
    backend: Pick<Backend, 'allocateHost'>,
    options: Partial<BatcherOptions> = {},
  ) {
    const { tables = [], denseFeatures = 1 } = model.architecture;
    this.records = new RecordModel(recordShape({ tables, denseFeatures }));
    const { depth = 1 } = options;
    this.batcher = new ClockedBatcher<Job>({
      latency: new StillLatency(),
      slaMs: 100,
      mostSamples: 1000,
      queueSamples: 1000,
      shrinks: false,
      ...options,
    });
    const events: EngineEvents = {
      ended: (job, outcome: Outcome, batch, retryAfterMs) => {
        this.log.push(`${job.from}.${job.ticket} ${outcome}`);
        if (batch !== undefined) this.times.set(job.ticket, batch);
        if (retryAfterMs !== undefined) this.refusals.push(retryAfterMs);
      },
      ran: ({ requests, samples }) => this.log.push(`ran ${requests}, ${samples}`),
      answered: ({ batchSize }) => this.log.push(`answered ${batchSize}`),
      failed: (error) => this.errors.push(error),
      freed: () => this.freed++,
    };
    this.engine = new Engine({
      model,
      backend,
      records: this.records,
      batcher: this.batcher,
      depth,
      memories: this.#arenas.map(({ address, bytes }) => viewMemory(address, bytes)),
      addresses: this.#arenas.map(({ address }) => Number(address)),
      events,
    });
  }

  /** What the engine said since the last call. */
  said(): string[] {
    return this.log.splice(0);
  }

  /** Posts a request. Its outputs go over it where they fit, else into a slot behind it; they are read from what this gives back. */
  post(
    request: DlrmRequest,
    width: number,
    { from = 0, ticket, deadlineMs = NEVER, priority = 4, broken = false }: Posted,
  ): () => Float32Array {
    const arena = this.#arenas[from] as SlotArena;
    const slot = arena.take(this.records.headerBytes + appendedBytes(request)) as Slot;
    appendRequest(this.records, slot, request);
    if (!broken) assert.equal(checkRecord(this.records, slot.address, slot.bytes.length), undefined);
    const { batchSize: samples } = request;
    const bytes = samples * width * 4;
    const output = bytes <= slot.bytes.length ? slot : (arena.take(bytes) as Slot);
    const [slotAddress, outputAddress] = [Number(slot.address), Number(output.address)];
    const arrivedMs = this.batcher.ms;
    this.engine.receive({
      from,
      ticket,
      slotAddress,
      outputAddress,
      samples,
      deadlineMs,
      priority,
      arrivedMs,
    });
    return () => new Float32Array(output.bytes.buffer, output.at, samples * width);
  }

  /** Posts samples of the held model. */
  postXs(xs: readonly number[], posted: Posted): () => number[] {
    const request = { batchSize: xs.length, denseFeatures: 1, dense: Float32Array.from(xs), bags: [] };
    const read = this.post(request, 3, posted);
    return () => [...read()];
  }

  [Symbol.dispose](): void {
    this.engine[Symbol.dispose]();
    for (const arena of this.#arenas) arena[Symbol.dispose]();
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const xsOf = ({ request }: Call) => [...request.dense];

async function held(
  options: Partial<BatcherOptions>,
  run: (bench: Bench, model: HeldModel) => Promise<void>,
): Promise<void> {
  const model = new HeldModel();
  using backend = countedBackend();
  {
    using bench = new Bench(model, backend, options);
    await run(bench, model);
    await turn();
    assert.equal(bench.engine.jobs, 0, 'nothing is kept of requests that have ended');
    assert.equal(bench.batcher.queuedRequests, 0);
  }
  assert.equal(backend.live(), 0, 'memory of batches is given back');
}

test('requests of all threads run as one batch, and each gets its rows of each output', () =>
  held({}, async (bench, model) => {
    const [a, b, c] = [
      bench.postXs([1, 2], { ticket: 5 }),
      bench.postXs([3], { ticket: 5, from: 1 }),
      bench.postXs([4, 5, 6], { ticket: 6 }),
    ];
    assert.equal(bench.engine.jobs, 3);
    assert.equal(bench.engine.pump(), undefined);
    assert.deepEqual(model.calls.map(xsOf), [[1, 2, 3, 4, 5, 6]]);
    assert.deepEqual(bench.said(), []);
    model.calls[0]?.answer();
    await turn();
    assert.deepEqual(bench.said(), ['ran 3, 6', '0.5 done', '1.5 done', '0.6 done', 'answered 6']);
    assert.deepEqual([a(), b(), c()], [[1, 2], [3], [4, 5, 6]].map(expected));
    const times = bench.times.get(6) as BatchTimes;
    assert.equal(times, bench.times.get(5));
    assert.deepEqual([times.samples, times.requests], [6, 3]);
    for (const ms of [times.mergeMs, times.computeMs, times.copyMs]) assert.ok(ms >= 0 && ms < 60_000);
  }));

for (const depth of [1, 2])
  test(`what is done between batches runs when none is under way, and none begins meanwhile, ${depth} at a time`, () =>
    held({ depth }, async (bench, model) => {
      bench.postXs([1], { ticket: 1 });
      bench.engine.pump();
      const [done, fails] = [deferred<number>(), deferred<number>()];
      const log: string[] = [];
      const work = (name: string, until: Promise<number>) => () => {
        log.push(name);
        return until;
      };
      const first = bench.engine.between(work('first', done.promise));
      const second = bench.engine.between(work('second', fails.promise));
      bench.postXs([2], { ticket: 2 });
      assert.equal(bench.engine.pump(), undefined);
      await turn();
      assert.deepEqual([log, model.calls.length], [[], 1]);
      model.calls[0]?.answer();
      await turn();
      assert.deepEqual([log.sort(), model.calls.length], [['first', 'second'], 1]);
      done.resolve(7);
      assert.equal(await first, 7);
      assert.equal(model.calls.length, 1);
      const freed = bench.freed;
      fails.reject(new Error('it fails'));
      await assert.rejects(second, /it fails/);
      assert.ok(bench.freed > freed, 'the thread is told that it may go on');
      assert.equal(model.calls.length, 2);
      assert.deepEqual(xsOf(model.calls[1] as Call), [2]);
      model.calls[1]?.answer();
      await turn();
    }));

test('with its device everything is lost: what it runs is told so, and nothing begins any more', () =>
  held({ depth: 2 }, async (bench, model) => {
    const failure = { call: 'cuLaunchKernel', status: 'CUDA_ERROR_ILLEGAL_ADDRESS' };
    bench.postXs([1], { ticket: 1 });
    bench.engine.pump();
    model.calls[0]?.fail(new CudaError('CUDA_FAILED', 'no more', { ...failure, contextLost: false }));
    await turn();
    assert.equal(bench.engine.lost, undefined);
    const lost = new CudaError('KERNEL_FAILED', 'an illegal address', { ...failure, contextLost: true });
    bench.postXs([2], { ticket: 2 });
    bench.engine.pump();
    bench.postXs([3], { ticket: 3 });
    bench.engine.pump();
    model.calls[1]?.fail(lost);
    model.calls[2]?.fail(lost);
    await turn();
    assert.equal(bench.engine.lost, lost);
    assert.deepEqual(
      bench.said().filter((line) => !line.startsWith('ran')),
      ['0.1 failed', '0.2 lost', '0.3 lost'],
    );
    bench.postXs([4], { ticket: 4 });
    assert.equal(bench.engine.pump(), undefined);
    assert.equal(model.calls.length, 3);
    bench.engine.cancel(0, 4);
  }));

test('outputs that are larger than their request go where it says', () =>
  held({}, async (bench, model) => {
    const xs = Array.from({ length: 100 }, (_, i) => i);
    const first = bench.postXs(xs, { ticket: 1, from: 1 });
    const second = bench.postXs([7], { ticket: 2, from: 1 });
    bench.engine.pump();
    model.calls[0]?.answer();
    await turn();
    assert.deepEqual([first(), second()], [expected(xs), expected([7])]);
  }));

test('requests that cannot be taken are refused at once, and nothing is kept of them', () =>
  held({ queueSamples: 3 }, async (bench, model) => {
    bench.postXs([1, 2], { ticket: 1 });
    bench.postXs([3, 4], { ticket: 2 });
    bench.postXs([5], { ticket: 3, deadlineMs: bench.batcher.ms - 10 });
    assert.deepEqual(bench.said(), ['0.2 overloaded', '0.3 unmeetable']);
    assert.equal(bench.refusals.length, 2);
    assert.equal(bench.refusals[1], 10);
    assert.equal(bench.engine.jobs, 1);
    bench.engine.cancel(0, 2);
    bench.engine.cancel(0, 3);
    bench.engine.pump();
    assert.deepEqual(model.calls.map(xsOf), [[1, 2]]);
    model.calls[0]?.answer();
    await turn();
    assert.deepEqual(bench.said(), ['ran 1, 2', '0.1 done', 'answered 2']);
  }));

test('requests whose deadline has passed when the engine is free are late', () =>
  held({}, async (bench, model) => {
    bench.postXs([1], { ticket: 1 });
    bench.engine.pump();
    bench.postXs([2], { ticket: 2, deadlineMs: bench.batcher.ms + 5 });
    bench.postXs([3], { ticket: 3 });
    bench.postXs([4], { ticket: 4, from: 1, deadlineMs: bench.batcher.ms + 5 });
    bench.batcher.ms += 6;
    model.calls[0]?.answer();
    await turn();
    const said = bench.said();
    assert.deepEqual(said.splice(0, 3), ['ran 1, 1', '0.1 done', 'answered 1']);
    assert.deepEqual(said.sort(), ['0.2 late', '1.4 late']);
    assert.equal(bench.engine.jobs, 1);
    assert.deepEqual(model.calls.slice(1).map(xsOf), [[3]]);
    model.calls[1]?.answer();
  }));

test('a request that is given up is taken out once, where it waits; one that runs is answered', () =>
  held({}, async (bench, model) => {
    const running = bench.postXs([1], { ticket: 1 });
    bench.engine.pump();
    bench.postXs([2], { ticket: 2 });
    bench.postXs([3], { ticket: 2, from: 1 });
    bench.engine.cancel(0, 2);
    bench.engine.cancel(0, 2);
    bench.engine.cancel(0, 1);
    bench.engine.cancel(0, 99);
    assert.deepEqual(bench.said(), ['0.2 cancelled']);
    model.calls[0]?.answer();
    await turn();
    assert.deepEqual(bench.said(), ['ran 1, 1', '0.1 done', 'answered 1']);
    assert.deepEqual(running(), expected([1]));
    bench.engine.cancel(0, 1);
    assert.deepEqual(model.calls.slice(1).map(xsOf), [[3]], 'the other thread’s goes on');
    model.calls[1]?.answer();
    await turn();
    assert.deepEqual(bench.said(), ['ran 1, 1', '1.2 done', 'answered 1']);
  }));

for (const depth of [1, 2]) {
  test(`a batch that fails fails its requests alone, ${depth} at once`, () =>
    held({ depth }, async (bench, model) => {
      bench.postXs([1], { ticket: 1 });
      bench.postXs([2], { ticket: 2, from: 1 });
      bench.engine.pump();
      const next = bench.postXs([3], { ticket: 3 });
      bench.engine.pump();
      const error = new Error('the device failed');
      model.calls[0]?.fail(error);
      await turn();
      assert.deepEqual(bench.said(), ['0.1 failed', '1.2 failed']);
      assert.deepEqual(bench.errors, [error]);
      model.calls[1]?.answer();
      await turn();
      assert.deepEqual(bench.said(), ['ran 1, 1', '0.3 done', 'answered 1']);
      assert.deepEqual(next(), expected([3]));
    }));

  test(`a batch that cannot be merged fails its requests alone, ${depth} at once`, () =>
    held({ depth }, async (bench, model) => {
      bench.postXs([1], { ticket: 1 });
      bench.engine.pump();
      bench.postXs([2], { ticket: 2, broken: true });
      bench.postXs([3], { ticket: 3 });
      bench.engine.pump();
      await turn();
      assert.deepEqual(bench.said(), [], 'what fails at once is told after the batch before it');
      model.calls[0]?.answer();
      await turn();
      assert.deepEqual(bench.said(), ['ran 1, 1', '0.1 done', 'answered 1', '0.2 failed', '0.3 failed']);
      assert.equal(bench.errors.length, 1);
      bench.postXs([4], { ticket: 4 });
      bench.engine.pump();
      model.calls[1]?.answer();
      await turn();
      assert.deepEqual(bench.said(), ['ran 1, 1', '0.4 done', 'answered 1']);
    }));
}

test('a model that throws, or answers with too little, fails its requests', () =>
  held({}, async (bench, model) => {
    const { predict } = model;
    model.predict = () => {
      throw new Error('at once');
    };
    bench.postXs([1], { ticket: 1 });
    bench.engine.pump();
    await turn();
    model.predict = () =>
      Promise.resolve({ outputs: { pair: new Float32Array(2) } } as unknown as Prediction);
    bench.postXs([1], { ticket: 2 });
    bench.engine.pump();
    await turn();
    model.predict = predict;
    bench.postXs([1], { ticket: 3 });
    bench.engine.pump();
    model.calls[0]?.answer();
    await turn();
    assert.deepEqual(bench.said(), ['0.1 failed', '0.2 failed', 'ran 1, 1', '0.3 done', 'answered 1']);
    assert.equal(bench.errors.length, 2);
  }));

test('one batch at once: the next begins when it has ended', () =>
  held({ mostSamples: 1 }, async (bench, model) => {
    for (const ticket of [1, 2, 3]) bench.postXs([ticket], { ticket });
    for (const calls of [1, 2, 3]) {
      assert.equal(bench.engine.pump(), undefined);
      assert.equal(model.calls.length, calls);
      model.calls[calls - 1]?.answer();
      await turn();
    }
    assert.deepEqual(
      bench.said(),
      [1, 2, 3].flatMap((n) => ['ran 1, 1', `0.${n} done`, 'answered 1']),
    );
  }));

test('two batches at once end in the order in which they began', () =>
  held({ depth: 2, mostSamples: 2 }, async (bench, model) => {
    const reads = [1, 2, 3, 4].map((n) => bench.postXs([n, n + 0.5], { ticket: n, from: n % 2 }));
    bench.engine.pump();
    assert.equal(model.calls.length, 2);
    model.calls[1]?.answer();
    await turn();
    assert.deepEqual(bench.said(), []);
    assert.equal(model.calls.length, 2, 'both memories are in use');
    model.calls[0]?.answer();
    await turn();
    assert.deepEqual(bench.said(), [
      'ran 1, 2',
      '1.1 done',
      'answered 2',
      'ran 1, 2',
      '0.2 done',
      'answered 2',
    ]);
    assert.equal(model.calls.length, 4);
    model.calls[2]?.fail(new Error('third'));
    model.calls[3]?.answer();
    await turn();
    assert.deepEqual(bench.said(), ['1.3 failed', 'ran 1, 2', '0.4 done', 'answered 2']);
    assert.deepEqual(
      [0, 1, 3].map((i) => reads[i]?.()),
      [1, 2, 4].map((n) => expected([n, n + 0.5])),
    );
  }));

test('a batch that fails first is told of after the one before it', () =>
  held({ depth: 2, mostSamples: 1 }, async (bench, model) => {
    for (const ticket of [1, 2]) bench.postXs([ticket], { ticket });
    bench.engine.pump();
    model.calls[1]?.fail(new Error('second'));
    // Were nobody to wait for it yet, it would end the thread.
    await turn();
    assert.deepEqual(bench.said(), []);
    model.calls[0]?.answer();
    await turn();
    assert.deepEqual(bench.said(), ['ran 1, 1', '0.1 done', 'answered 1', '0.2 failed']);
  }));

test('whoever pumps is told when a batch has ended: another may begin later, or nothing is left', () => {
  const latency = new StillLatency([{ samples: 1, ms: 50 }]);
  return held({ depth: 2, mostSamples: 1, prepareMs: () => 1, latency }, async (bench, model) => {
    for (const ticket of [1, 2]) bench.postXs([ticket], { ticket });
    const againMs = bench.engine.pump();
    assert.equal(model.calls.length, 1);
    assert.ok(againMs !== undefined, 'the next is merged shortly before the first is done');
    bench.batcher.ms += 1000;
    assert.equal(bench.freed, 0);
    model.calls[0]?.answer();
    await turn();
    assert.equal(bench.freed, 1);
    assert.equal(bench.engine.jobs, 1);
    model.calls[1]?.fail(new Error('second'));
    await turn();
    assert.equal(bench.freed, 2);
    assert.equal(bench.engine.jobs, 0);
    assert.deepEqual(bench.said(), ['ran 1, 1', '0.1 done', 'answered 1', '0.2 failed']);
  });
});

test('an engine that is disposed while a batch runs gives its memory back afterwards, and begins no other', async () => {
  const model = new HeldModel();
  using backend = countedBackend();
  using bench = new Bench(model, backend, { depth: 2, mostSamples: 1 });
  const read = bench.postXs([1], { ticket: 1 });
  bench.engine.pump();
  bench.postXs([2], { ticket: 2 });
  assert.equal(backend.live(), 2);
  bench.engine[Symbol.dispose]();
  assert.equal(backend.live(), 1);
  const settled = bench.engine.settled();
  model.calls[0]?.answer();
  await settled;
  assert.equal(backend.live(), 0);
  assert.deepEqual(read(), expected([1]));
  assert.equal(model.calls.length, 1);
});

const ARCHITECTURES: Readonly<Record<string, (random: Random) => ModelArchitecture>> = {
  ...Object.fromEntries(INTERACTIONS.map((kind) => [kind, (random: Random) => smallModel(random, kind)])),
  'a logit': (random) => ({ ...smallModel(random, 'dot-lower'), output: 'logit' }),
  'several outputs': branchingModel,
  'tables alone': tablesModel,
};

for (const [name, make] of Object.entries(ARCHITECTURES))
  test(`on the CPU a request gets in a batch, bit for bit, what it gets alone: ${name}`, async () => {
    const random = new Random(SEED);
    const architecture = make(random);
    const { backend } = openBackend({ device: 'cpu', threads: 2 });
    await using model = await DlrmModel.create(backend, architecture, {
      closesBackend: true,
      indexChecking: 'none',
    });
    const outputs = namedOutputs(model.head, architecture.output);
    const width = outputs.reduce((sum, output) => sum + output.width, 0);
    using bench = new Bench(model, backend);
    const requests = [1, 7, 2, 33, 1].map((size) => smallRequest(random, architecture, size));
    for (const together of [true, false]) {
      const reads = requests.map((request, ticket) => {
        const read = bench.post(request, width, { ticket, from: ticket % 2 });
        if (!together) bench.engine.pump();
        return read;
      });
      for (let turns = 0; bench.engine.jobs > 0; turns++) {
        assert.ok(turns < 1e5);
        bench.engine.pump();
        await turn();
      }
      await bench.engine.settled();
      assert.deepEqual(bench.errors, []);
      if (together) assert.ok(bench.said().includes('ran 5, 44'));
      for (const [r, request] of requests.entries()) {
        const alone = outputArrays(await model.predict(request), outputs);
        const bits = (array: Float32Array) => [...new Uint32Array(array.slice().buffer)];
        assert.deepEqual(bits((reads[r] as () => Float32Array)()), alone.flatMap(bits), `request ${r}`);
      }
    }
  });
