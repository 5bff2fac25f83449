import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Admission } from '../../src/backend/admission.ts';
import type { Backend, Executable, RunReport } from '../../src/backend/backend.ts';
import { BatchPrograms, type MakeProgram } from '../../src/backend/batch-programs.ts';
import { DeviceError } from '../../src/errors.ts';

const REPORT: RunReport = {
  seconds: new Float64Array(),
  stages: {},
  findings: { badIndices: 0, badOffsets: 0 },
  launches: [],
  kernels: [],
};

/** A backend that prepares programs and says which of them ran, by number. */
function open(make: MakeProgram = () => []) {
  const ran: number[] = [];
  let made = 0;
  let kept = 0;
  let blocks = 0;
  const prepare = (): Executable => {
    const number = made++;
    kept += 1;
    return {
      run: async () => {
        ran.push(number);
        return REPORT;
      },
      [Symbol.dispose]: () => {
        kept -= 1;
      },
    };
  };
  const backend = {
    admission: new Admission(),
    capacityFor: (batchSize: number) => Math.max(1, batchSize),
    prepare,
    allocate: (length: number) => {
      blocks += 1;
      return { length, [Symbol.dispose]: () => (blocks -= 1) };
    },
  } as unknown as Backend;
  const programs = new BatchPrograms(backend, make);
  const run = async (batchSize: number, kind: unknown) => {
    using program = programs.borrow({ batchSize, kind });
    await program.executable.run();
  };
  return { programs, run, ran, made: () => made, kept: () => kept, blocks: () => blocks };
}

test('bags of two kinds in turns have a program each', async () => {
  const { run, ran, made } = open();
  for (let round = 0; round < 3; round++) for (const kind of ['samples', 'users']) await run(8, kind);
  assert.deepEqual(ran, [0, 1, 0, 1, 0, 1]);
  assert.equal(made(), 2);
});

test('of many kinds few programs are kept: the one that is idle longest serves the next', async () => {
  const { run, ran, made } = open();
  for (const kind of [0, 1, 2, 3, 4, 5, 3, 4]) await run(8, kind);
  assert.equal(made(), 4);
  assert.deepEqual(ran, [0, 1, 2, 3, 0, 1, 3, 0]);
  await run(9, 0);
  assert.equal(made(), 5, 'another number of samples has its own');
});

test('batches at once have programs of their own, and all are given back', async () => {
  const { programs, run, made, kept } = open();
  await Promise.all([run(8, 'a'), run(8, 'a'), run(8, 'a')]);
  assert.equal(made(), 3);
  programs[Symbol.dispose]();
  assert.equal(kept(), 0);
});

test('of programs for many numbers of samples those used last are kept, each with its block', async () => {
  const { programs, run, made, kept, blocks } = open();
  for (let batchSize = 1; batchSize <= 200; batchSize++) await run(batchSize, 'a');
  assert.equal(made(), 200);
  assert.equal(kept(), 64);
  assert.equal(blocks(), 64);
  await run(200, 'a');
  assert.equal(made(), 200, 'the one used last is there');
  await run(1, 'a');
  assert.equal(made(), 201, 'the first is not');
  programs[Symbol.dispose]();
  assert.equal(kept(), 0);
  assert.equal(blocks(), 0);
});

test('idle programs hold at most 4 GiB, but for the one used last', async () => {
  const GIB = 2 ** 28;
  const { run, kept } = open((capacity, workspace) => {
    workspace.packed(capacity, GIB);
    return [];
  });
  for (const [batchSize, expected] of [
    [1, 1],
    [2, 2],
    [3, 1],
    [1, 2],
    [9, 1],
  ] as const) {
    await run(batchSize, 'a');
    assert.equal(kept(), expected, `after ${batchSize} GiB`);
  }
});

test('what a batch takes is told before there is a program for it', () => {
  const { programs, made } = open((capacity, workspace) => {
    workspace.packed(capacity, 64);
    return [];
  });
  assert.equal(programs.bytesFor(10), 10 * 64 * 4);
  assert.equal(programs.bytesFor(0), 0);
  assert.equal(made(), 0);
});

test('no more idle programs go than must', async () => {
  const GIB = 2 ** 28;
  const { run, kept } = open((capacity, workspace) => {
    workspace.packed(capacity, GIB);
    return [];
  });
  for (const kind of ['a', 'b']) await run(2, kind);
  assert.equal(kept(), 2);
  await run(1, 'a');
  assert.equal(kept(), 2, 'of 5 GiB the oldest 2 went');
});

test('where memory is short idle programs make room once, and any other error is told', async () => {
  const errors: Error[] = [];
  const { programs, run, kept, blocks } = open(() => {
    const error = kept() > 0 ? errors[0] : undefined;
    if (error !== undefined) throw error;
    return [];
  });
  await run(1, 'a');
  await run(2, 'a');
  errors.push(new DeviceError('OUT_OF_MEMORY', 'no room'));
  await run(3, 'a');
  assert.equal(kept(), 1);
  errors[0] = new DeviceError('KERNEL_FAILED', 'broken');
  await assert.rejects(run(4, 'a'), /broken/);
  assert.deepEqual([kept(), blocks()], [1, 1]);
  programs[Symbol.dispose]();
  assert.deepEqual([kept(), blocks()], [0, 0]);
});

test('batches that were announced share memory, whatever their sizes', async () => {
  const { programs, run, made, blocks, kept } = open();
  programs.reserve(100, 2);
  assert.equal(blocks(), 2);
  for (let batchSize = 1; batchSize <= 100; batchSize++) await run(batchSize, 'a');
  for (let batchSize = 1; batchSize <= 100; batchSize++) await run(batchSize, 'a');
  assert.equal(blocks(), 2);
  assert.equal(made(), 100, 'the lane that has the program serves it again');
  await Promise.all([run(5, 'a'), run(5, 'a')]);
  assert.deepEqual([blocks(), made()], [2, 101], 'the second lane has programs of its own');
  await Promise.all([run(5, 'a'), run(5, 'a'), run(5, 'a')]);
  assert.deepEqual([blocks(), made()], [3, 102], 'more at once take memory of their own');
  await run(101, 'a');
  assert.deepEqual([blocks(), made()], [4, 103], 'and so do larger ones');
  programs[Symbol.dispose]();
  assert.deepEqual([blocks(), kept()], [0, 0]);
});

test('where memory for announced batches ends, what was taken is given back', () => {
  let blocks = 0;
  const backend = {
    capacityFor: (batchSize: number) => batchSize,
    allocate: () => {
      if (blocks === 1) throw new DeviceError('OUT_OF_MEMORY', 'no more');
      blocks += 1;
      return {
        length: 1,
        [Symbol.dispose]: () => {
          blocks -= 1;
        },
      };
    },
  } as unknown as Backend;
  const programs = new BatchPrograms(backend, () => []);
  assert.throws(() => programs.reserve(8, 3), { code: 'OUT_OF_MEMORY' });
  assert.equal(blocks, 0);
});
