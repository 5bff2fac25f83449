import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend, Executable, RunReport } from '../../src/backend/backend.ts';
import { BatchPrograms } from '../../src/backend/batch-programs.ts';

const REPORT: RunReport = {
  seconds: new Float64Array(),
  stages: {},
  findings: { badIndices: 0, badOffsets: 0 },
  launches: [],
  kernels: [],
};

/** A backend that prepares programs and says which of them ran, by number. */
function open() {
  const ran: number[] = [];
  let made = 0;
  let kept = 0;
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
    capacityFor: (batchSize: number) => Math.max(1, batchSize),
    prepare,
  } as unknown as Backend;
  const programs = new BatchPrograms(backend, () => []);
  const run = (batchSize: number, kind: unknown) => programs.run({ batchSize, kind }, {});
  return { programs, run, ran, made: () => made, kept: () => kept };
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
