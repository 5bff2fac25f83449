/** Pooled rows that the fused CUDA kernel writes in 8 bits too, on the host: the bits of what the output holds, rounded. */
import { test } from 'node:test';
import { type Bags, ROW_FORMATS } from '../../src/embedding/bag.ts';
import { bagsOf, MODES, mixedProblem, randomBags, randomTable } from '../support/cases.ts';
import { Random } from '../support/random.ts';
import { usersProblem } from '../support/users.ts';
import { refuseEmulation } from './emulator.ts';
import { assertRounded, together } from './fused-pool.ts';

const skip = refuseEmulation();

test('tables of every kind in one launch', { skip }, async () => {
  await assertRounded(
    mixedProblem(new Random(31), 9, 40),
    { inFlight: 8, pipelined: true, threads: 256 },
    'all tables',
  );
});

test('widths of whole vectors and others, in every format and mode; several bags a group', {
  skip,
}, async () => {
  const random = new Random(32);
  const dims = [1, 3, 8, 16, 20, 33, 64, 100, 128, 300, 1024];
  await together([...ROW_FORMATS.entries()], async ([f, rowFormat]) => {
    const own = dims.filter((_, i) => (i + f) % 2 === 0);
    const tables = own.map((dim, i) =>
      randomTable(random, { rows: 30, dim, rowFormat, mode: MODES[(i + f) % 3] ?? 'sum' }),
    );
    const bags = own.map(() => randomBags(random, { batch: 5, rows: 30, lengths: [0, 9] }));
    const problem = { tables, batch: { batchSize: 5, bags } };
    await assertRounded(problem, f % 2 === 0 ? { bagsPerGroup: 2 } : { laneBytes: 4 }, rowFormat);
  });
});

test('bags that are cut into segments', { skip }, async () => {
  const random = new Random(33);
  const lengths = [3, 2500, 0, 600, 1];
  const lists = () => lengths.map((length) => Array.from({ length }, () => random.integer(0, 99)));
  const tables = [
    randomTable(random, { rows: 100, dim: 128 }),
    randomTable(random, { rows: 100, dim: 9, mode: 'mean', paddingIdx: 5 }),
    randomTable(random, { rows: 100, dim: 600, mode: 'max', rowFormat: 'float16' }),
  ];
  const bags: Bags[] = tables.map(() => bagsOf(lists()));
  await assertRounded({ tables, batch: { batchSize: lengths.length, bags } }, {}, 'segments');
});

test('tables with a bag per user, and none', { skip }, async () => {
  const random = new Random(34);
  const tables = [16, 300, 33].map((dim, t) =>
    randomTable(random, { rows: 30, dim, mode: MODES[t % 3] ?? 'sum' }),
  );
  const cases = [
    [0, 1, 2, 3],
    [0, 0, 0, 2, 2, 2],
  ];
  await together(cases, async (starts) => {
    const problem = usersProblem(random, tables, { starts, perUser: (t) => t !== 1, longest: 20 });
    await assertRounded(problem, {}, `users at ${starts}`);
  });
});
