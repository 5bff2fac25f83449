/** Programs that run again and again on CUDA, over the fake driver: what is captured, replayed, updated and given back. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { PlacedTables } from '../../../../src/backend/backend.ts';
import { matrix } from '../../../../src/backend/backend.ts';
import type { CudaBackend, CudaBackendOptions } from '../../../../src/backend/cuda/cuda-backend.ts';
import type { CudaBags } from '../../../../src/backend/cuda/embedding/bags.ts';
import type { CudaStream } from '../../../../src/cuda/stream.ts';
import type { BagBatch } from '../../../../src/embedding/bag.ts';
import { placeCollection } from '../../../../src/model/collection.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { fake, openFakeBackend } from '../../../fake-driver/open-backend.ts';
import { integers, type Problem } from '../../../support/cases.ts';
import { poolOn } from '../../../support/run-operators.ts';

const skip = refuseEmulation();

describe('CUDA programs', { skip }, () => {
  if (skip !== undefined) return;
  after(() => {
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'everything was given back');
  });

  const DIM = 4;
  const ROWS = 10;
  const weight = {
    dtype: 'float32',
    shape: [ROWS, DIM],
    data: Float32Array.from({ length: ROWS * DIM }, (_, i) => i),
  } as const;
  const tables: Problem['tables'] = [
    { name: 'a', weight, rows: ROWS, dim: DIM, rowFormat: 'float32', mode: 'sum' },
  ];

  /** A batch whose bags hold these rows. */
  function batchOf(...bags: number[][]): BagBatch {
    let next = 0;
    const offsets = bags.map((bag) => {
      next += bag.length;
      return next - bag.length;
    });
    return {
      batchSize: bags.length,
      bags: [{ indices: integers(bags.flat()), offsets: integers(offsets) }],
    };
  }

  interface Kept {
    readonly backend: CudaBackend;
    readonly placed: PlacedTables;
    /** Pools a batch by one executable; the first row of each bag's sum. */
    pool(batch: BagBatch): Promise<number[]>;
    [Symbol.dispose](): void;
  }

  async function open(capacity: number, options: CudaBackendOptions = {}): Promise<Kept> {
    const backend = openFakeBackend(options);
    const placed = await placeCollection(backend, tables);
    const buffer = backend.allocate(capacity * DIM);
    const output = matrix(buffer, capacity, DIM);
    const executable = backend.prepare([
      { op: 'embeddingBags', tables: placed, bags: 'bags', output, checking: 'error' },
      { op: 'download', input: output, target: 'sums' },
    ]);
    return {
      backend,
      placed,
      async pool(batch) {
        using bags = backend.placeBags(placed, batch);
        const target = new Float32Array(batch.batchSize * DIM);
        await executable.run({ bags, sums: target }, { timing: 'none' });
        return Array.from({ length: batch.batchSize }, (_, b) => target[b * DIM] as number);
      },
      [Symbol.dispose]() {
        for (const part of [executable, buffer, placed, backend]) part[Symbol.dispose]();
      },
    };
  }

  /** Graphs that are captured and kept. */
  const graphs = () => fake.live().graphExec ?? 0;
  const sums = (...bags: number[][]) => bags.map((bag) => bag.reduce((sum, row) => sum + row * DIM, 0));

  test('the second run is captured, the others replay it with their own bags', async () => {
    using kept = await open(4);
    const batches = [[[1, 2], [3]], [[4], [5, 6, 7]], [[], [8], [9, 9, 9, 9], [1]], [[2]], [[3, 3], [], []]];
    for (const [run, bags] of batches.entries()) {
      assert.deepEqual(await kept.pool(batchOf(...bags)), sums(...bags), `run ${run}`);
      assert.equal(graphs(), run === 0 ? 0 : 1, `run ${run}`);
    }
    assert.equal(fake.live().graph, 1);
  });

  test('a replay of a small batch costs a copy, a launch, and the wait for its end', async () => {
    using kept = await open(2);
    for (const row of [1, 2]) await kept.pool(batchOf([row]));
    const before = fake.calls();
    assert.deepEqual(await kept.pool(batchOf([3])), sums([3]));
    // One more: the event behind the launch is recorded before it is asked for.
    assert.equal(fake.calls() - before, 4);
  });

  test('users take one launch more; replays follow users of other candidates', async () => {
    using kept = await open(8);
    const usersOf = (starts: number[], ...bags: number[][]): BagBatch => {
      const { bags: own } = batchOf(...bags);
      return {
        batchSize: starts.at(-1) as number,
        users: Int32Array.from(starts),
        bags: own.map((one) => ({ ...one, perUser: true })),
      };
    };
    const repeated = (starts: number[], ...bags: number[][]) =>
      sums(...bags.flatMap((bag, u) => Array((starts[u + 1] as number) - (starts[u] as number)).fill(bag)));
    const turns: [number[], ...number[][]][] = [
      [
        [0, 3],
        [1, 2],
      ],
      [
        [0, 3],
        [4, 5],
      ],
      [[0, 1, 8], [6], [7, 7]],
      [[0, 0, 5, 5], [1], [2, 3], [4]],
    ];
    for (const [run, turn] of turns.entries()) {
      const before = fake.calls();
      assert.deepEqual(await kept.pool(usersOf(...turn)), repeated(...turn), `run ${run}`);
      assert.equal(graphs(), run === 0 ? 0 : 1, `run ${run}`);
      // The copy of the bags, the launch of the graph, the end; and two updates, where parameters changed.
      if (run > 1) assert.ok(fake.calls() - before <= 6, `run ${run}: ${fake.calls() - before} calls`);
    }
    // Batches without users have one launch less, and are captured anew.
    for (const bags of [
      [[1], [2]],
      [[3], [4, 4]],
    ]) {
      assert.deepEqual(await kept.pool(batchOf(...bags)), sums(...bags));
      assert.equal(graphs(), 1);
    }
    assert.deepEqual(await kept.pool(usersOf([0, 2], [9])), repeated([0, 2], [9]));
  });

  test('lookups whose rows nobody brings to the host are waited for in each run', async () => {
    using kept = await open(2);
    using bags = kept.backend.placeBags(kept.placed, batchOf([1], [2]));
    using buffer = kept.backend.allocate(2 * DIM);
    const output = matrix(buffer, 2, DIM);
    using program = kept.backend.prepare([
      { op: 'embeddingBags', tables: kept.placed, bags, output, checking: 'error' },
    ]);
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    // What it needs is made ready.
    await program.run({}, { timing: 'none' });
    fake.setWorkMs(5);
    fake.stopClock();
    try {
      for (let run = 0; run < 3; run++) {
        let ended = false;
        const running = program.run({}, { timing: 'none' }).then(() => {
          ended = true;
        });
        for (let turns = 0; turns < 50; turns++) await turn();
        assert.equal(ended, false, `run ${run} ends with its work`);
        // Some of it may be put into the stream only now.
        while (!ended) {
          fake.advanceClock(5);
          await turn();
        }
        await running;
      }
    } finally {
      fake.startClock();
      fake.setWorkMs(0);
    }
  });

  test('bags tell in which stream their upload is, while runs may meet it', async () => {
    using kept = await open(2);
    using bags = kept.backend.placeBags(kept.placed, batchOf([1], [2])) as CudaBags;
    const stream = () => ({ copyToDevice() {} }) as unknown as CudaStream;
    const [first, second] = [stream(), stream()];
    {
      using _run = bags.hold();
      await bags.stage();
      assert.equal(bags.upload(first), first);
      {
        using _other = bags.hold();
        assert.equal(bags.upload(second), first);
      }
      assert.equal(bags.upload(second), first);
    }
    assert.equal(bags.upload(second), undefined);
  });

  test('bags that need another kernel are captured anew, or launched as they are', async () => {
    using kept = await open(2);
    const long = Array.from({ length: 3000 }, (_, i) => i % ROWS);
    for (const bags of [[[1]], [[2]], [long, [1]], [[3]], [long, [2]], [], [[4], [5]]]) {
      const expected = sums(...bags);
      assert.deepEqual(await kept.pool(batchOf(...bags)), expected);
      assert.ok(graphs() <= 1);
    }
  });

  test('a refused batch gives its error, and the next is right', async () => {
    using kept = await open(2);
    for (let run = 0; run < 3; run++) {
      await assert.rejects(kept.pool(batchOf([1], [ROWS])), {
        code: 'INDEX_OUT_OF_RANGE',
        message: /table 0 \(a\): indices\[1\] = 10/,
      });
      assert.deepEqual(await kept.pool(batchOf([1], [2])), sums([1], [2]));
    }
  });

  test('a failing call of the graph is an error of that run only', async () => {
    for (const call of [
      'cuStreamBeginCapture',
      'cuStreamEndCapture',
      'cuGraphInstantiateWithFlags',
      'cuGraphLaunch',
    ]) {
      using kept = await open(2);
      assert.deepEqual(await kept.pool(batchOf([1])), sums([1]));
      fake.fail(call, 1, 2);
      await assert.rejects(kept.pool(batchOf([2])), { code: 'OUT_OF_MEMORY' }, call);
      assert.deepEqual(await kept.pool(batchOf([3])), sums([3]), call);
    }
  });

  test('programs of other devices, of overlapping runs, and after their end are refused', async () => {
    using kept = await open(2);
    const first = kept.pool(batchOf([1]));
    await assert.rejects(kept.pool(batchOf([2])), { code: 'USAGE', message: /runs already/ });
    assert.deepEqual(await first, sums([1]));
    const ended = kept.backend.prepare([]);
    ended[Symbol.dispose]();
    await assert.rejects(ended.run(), { code: 'DISPOSED' });
  });

  test('capacities are few, and at most an eighth above 64', () => {
    using backend = openFakeBackend();
    const capacities = new Set<number>();
    for (let batch = 0; batch <= 5000; batch++) {
      const capacity = backend.capacityFor(batch);
      assert.ok(capacity >= batch, `${batch} → ${capacity}`);
      if (batch > 64) assert.ok(capacity <= batch * 1.125, `${batch} → ${capacity}`);
      capacities.add(capacity);
    }
    assert.ok(capacities.size <= 64, `${capacities.size} capacities`);
    assert.equal(backend.capacityFor(2048), 2048);
    assert.equal(backend.capacityFor(1), 1);
  });

  test('a program that runs once gives the same', async () => {
    using kept = await open(2);
    const batch = batchOf([1, 5], [7]);
    const { pooled } = await poolOn(kept.backend, tables, batch);
    assert.deepEqual(await kept.pool(batch), [pooled[0], pooled[DIM]]);
  });
});
