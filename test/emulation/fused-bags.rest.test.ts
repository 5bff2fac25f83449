/** The fused CUDA kernel on the host: tables of every kind in one launch, against the reference. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Bags, type EmbeddingTable, ROW_FORMATS } from '../../src/embedding/bag.ts';
import { referenceEmbeddingBags } from '../../src/embedding/reference.ts';
import { assertPooled } from '../conformance/subject.ts';
import {
  bagsOf,
  integers,
  MODES,
  mixedProblem,
  problemOf,
  randomBags,
  randomTable,
} from '../support/cases.ts';
import { assertSameValues } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { refuseEmulation } from './emulator.ts';
import { assertExact, pool, together } from './fused-pool.ts';

const skip = refuseEmulation();

/** All tables once; then every other one for each flight, so that each meets every number in flight, pipelined in half of them. */
test('tables of every kind in one launch', { skip }, async () => {
  const flights = [
    [1, 32],
    [4, 64],
    [8, 256],
    [32, 96],
  ] as const;
  const all = mixedProblem(new Random(16), 9, 40);
  assertExact((await pool(all, { inFlight: 8, threads: 256 })).pooled, all, 'all tables');
  const cases = flights.flatMap(([inFlight, threads], f) =>
    [false, true].map((pipelined) => ({ f, inFlight, threads, pipelined })),
  );
  await together(cases, async ({ f, inFlight, threads, pipelined }) => {
    const { tables, batch } = mixedProblem(new Random(inFlight), 9, 40);
    const isOwn = (_: unknown, t: number) => (t + f + (pipelined ? 1 : 0)) % 2 === 0;
    const half = { tables: tables.filter(isOwn), batch: { ...batch, bags: batch.bags.filter(isOwn) } };
    const { pooled, findings } = await pool(half, { inFlight, pipelined, threads });
    assert.equal(findings, 0n);
    assertExact(pooled, half, `${inFlight} in flight, pipelined: ${pipelined}, ${threads} threads`);
  });
});

/** Each flight and size of a lane's part takes a third of the widths of each format: over all formats, every width twice. */
test('every width, in every format and mode', { skip }, async () => {
  const random = new Random(12);
  const dims = [
    1, 2, 3, 4, 5, 7, 8, 12, 16, 20, 32, 33, 48, 64, 96, 100, 128, 130, 192, 256, 300, 512, 1000, 1024,
  ];
  const options = [
    { inFlight: 4, pipelined: true },
    { inFlight: 16, pipelined: true },
    { inFlight: 32 },
    { inFlight: 16, laneBytes: 4 },
    { inFlight: 16, laneBytes: 8 },
  ];
  for (const [f, rowFormat] of ROW_FORMATS.entries()) {
    const tables = dims.map((dim, i) =>
      randomTable(random, { rows: 30, dim, rowFormat, mode: MODES[(i + f) % 3] ?? 'sum' }),
    );
    const bags = dims.map((_, i) =>
      randomBags(random, { batch: 5, rows: 30, lengths: [0, 37], index: i % 2 === 0 ? 'int64' : 'int32' }),
    );
    const problem = { tables, batch: { batchSize: 5, bags } };
    assertExact((await pool(problem)).pooled, problem, rowFormat);
    await together([...options.entries()], async ([o, own]) => {
      const isOwn = (_: unknown, i: number) => (Math.floor(i / 3) + i + o + f) % 3 === 0;
      const third = { tables: tables.filter(isOwn), batch: { batchSize: 5, bags: bags.filter(isOwn) } };
      assertExact((await pool(third, own)).pooled, third, `${rowFormat}, ${JSON.stringify(own)}`);
    });
  }
});

test('turns of more lookups than a group has lanes', { skip }, async () => {
  const random = new Random(23);
  const tables: EmbeddingTable[] = [];
  const bags: Bags[] = [];
  const kinds = [1, 4, 8, 20, 32, 64, 100].flatMap((dim) =>
    (['float32', 'float16', 'int8'] as const).map((rowFormat) => ({ dim, rowFormat })),
  );
  kinds.forEach(({ dim, rowFormat }, i) => {
    tables.push(randomTable(random, { rows: 30, dim, rowFormat, mode: MODES[i % 3] ?? 'sum' }));
    const index = i % 2 === 0 ? 'int64' : 'int32';
    bags.push(randomBags(random, { batch: 9, rows: 30, lengths: [0, i % 4 === 0 ? 70 : 12], index }));
  });
  const problem = { tables, batch: { batchSize: 9, bags } };
  const turns = [
    [8, 8, false, 1],
    [16, 4, false, 4],
    [32, 16, false, 1],
    [16, 4, true, 2],
    [8, 16, true, 1],
  ] as const;
  await together(turns, async ([turn, inFlight, pipelined, bagsPerGroup]) => {
    const { pooled, findings } = await pool(problem, { turn, inFlight, pipelined, bagsPerGroup });
    assert.equal(findings, 0n);
    assertExact(pooled, problem, `turns of ${turn}, ${inFlight} in flight, pipelined: ${pipelined}`);
  });
  const lists = [[1, 2, 7, 4], [], [0, 1, 2, 3, 4, -1, 4, 3, 2]];
  const spoilt = problemOf(randomTable(random, { rows: 5, dim: 8 }), lists.length, bagsOf(lists));
  assert.equal((await pool(spoilt, { turn: 16, inFlight: 8 })).findings, 2n);
  const repaired = await pool(spoilt, { turn: 16, inFlight: 8, checking: 'repair' });
  assert.equal(repaired.pooled.length, 24);
});

test('scales and biases that are subnormal in float16', { skip }, async () => {
  const random = new Random(19);
  const tables = (['int8', 'int4'] as const).flatMap((rowFormat) =>
    [2e-7, 2e-6, 1.6e-4].map((size) => randomTable(random, { rows: 30, dim: 48, rowFormat, size })),
  );
  const bags = tables.map(() => randomBags(random, { batch: 5, rows: 30, lengths: [0, 37] }));
  const problem = { tables, batch: { batchSize: 5, bags } };
  assertExact((await pool(problem)).pooled, problem, 'subnormal scales');
});

test('bags of every length, alone and beside others', { skip }, async () => {
  const random = new Random(13);
  for (const dim of [128, 16]) {
    const table = randomTable(random, { rows: 40, dim });
    const lists = Array.from({ length: 72 }, (_, length) =>
      Array.from({ length: (length * 29) % 72 }, () => random.integer(0, 39)),
    );
    const problem = problemOf(table, lists.length, bagsOf(lists, { endOffset: true }));
    for (const backwards of [false, true]) {
      for (const bagsPerGroup of [1, 2, 3, 7]) {
        await together([false, true], async (pipelined) => {
          const { pooled } = await pool(problem, { inFlight: 8, pipelined, backwards, bagsPerGroup });
          assertExact(pooled, problem, `dim ${dim}, ${bagsPerGroup} bags a group, pipelined: ${pipelined}`);
        });
      }
    }
  }
});

test('several bags a group: tiles, segments and bad bags among them', { skip }, async () => {
  const random = new Random(18);
  const tables = [16, 300, 1000].map((dim) => randomTable(random, { rows: 20, dim, exact: true }));
  const lists = [[1], [], Array.from({ length: 700 }, (_, i) => i % 20), [2, 3], [4], [], [5]];
  const bags = tables.map(() => bagsOf(lists, { endOffset: true }));
  const problem = { tables, batch: { batchSize: lists.length, bags } };
  for (const bagsPerGroup of [2, 5]) {
    assertExact((await pool(problem, { bagsPerGroup })).pooled, problem, `${bagsPerGroup} bags a group`);
    const { pooled } = await pool(problem, { bagsPerGroup, laneBytes: 4 });
    assertExact(pooled, problem, `${bagsPerGroup} bags a group, 4 bytes a lane`);
  }
  const good = bagsOf(lists, { endOffset: true });
  const indices = integers(
    Array.from(good.indices as Iterable<bigint>, (index, p) => (p === 704 ? 20 : index)),
  );
  const bad = problemOf(tables[0] as EmbeddingTable, lists.length, { ...good, indices });
  assert.equal((await pool(bad, { bagsPerGroup: 3 })).findings, 1n);
});

test('no samples, no lookups, one sample', { skip }, async () => {
  const table = randomTable(new Random(14), { rows: 3, dim: 64 });
  for (const lists of [[], [[]], [[], [], []], [[2]]]) {
    const problem = problemOf(table, lists.length, bagsOf(lists));
    const { pooled, findings } = await pool(problem);
    assert.equal(findings, 0n);
    assertExact(pooled, problem, `${lists.length} bags`);
  }
});

test('long bags are cut into segments, and their sums added up', { skip }, async () => {
  const random = new Random(15);
  const lengths = [3, 5000, 0, 600, 1, 2049, 7];
  const lists = () => lengths.map((length) => Array.from({ length }, () => random.integer(0, 99)));
  const tables = [
    randomTable(random, { rows: 100, dim: 128, exact: true }),
    randomTable(random, { rows: 100, dim: 9, mode: 'mean', paddingIdx: 5, exact: true }),
    randomTable(random, { rows: 100, dim: 600, mode: 'max', rowFormat: 'float16' }),
    randomTable(random, { rows: 100, dim: 32, rowWeights: true, exact: true }),
  ];
  const bags = tables.map((_, i) => bagsOf(lists(), { endOffset: i % 2 === 0 }));
  const problem = { tables, batch: { batchSize: lengths.length, bags } };
  for (const backwards of [false, true]) {
    // Sums of small integers are exact in any order.
    assertExact((await pool(problem, { backwards })).pooled, problem, 'segments');
  }
  const real = {
    tables: [randomTable(random, { rows: 100, dim: 48 })],
    batch: { ...problem.batch, bags: [bags[0] as Bags] },
  };
  const once = await pool(real);
  assertPooled(
    { addsInIndexOrder: false, addsQuantizedInIndexOrder: false, longestInOrder: 0 },
    once.pooled,
    real,
    'segments of reals',
  );
  assertSameValues(
    (await pool(real, { backwards: true })).pooled,
    Float64Array.from(once.pooled),
    'the same every time',
  );
});

test('bad indices and offsets are counted, and nothing is read by them', { skip }, async () => {
  const random = new Random(16);
  const table = randomTable(random, { rows: 10, dim: 40 });
  const good = [[1, 2, 3], [], [4], [0, 9, 9, 9]];
  for (const type of ['int32', 'int64'] as const) {
    const bad = type === 'int32' ? [-1, 10, 2 ** 31 - 1] : [-1, 10, 2 ** 40, 2 ** 32];
    for (const value of bad) {
      for (let position = 0; position < 8; position++) {
        const bags = bagsOf(good, { index: type });
        const indices = integers(
          Array.from(bags.indices as Iterable<number | bigint>, (index, p) =>
            p === position ? value : Number(index),
          ),
          type,
        );
        const { findings } = await pool(problemOf(table, 4, { ...bags, indices }));
        assert.equal(findings, 1n, `indices[${position}] = ${value}`);
      }
    }
    for (const offsets of [
      [1, 3, 3, 4],
      [0, 3, 2, 4],
      [0, 3, 3, 9],
      [0, 3, 3, -4],
      [0, 3, 3, 4, 9],
    ]) {
      const bags = { ...bagsOf(good), offsets: integers(offsets, type) };
      const { findings } = await pool(problemOf(table, 4, bags));
      assert.ok(findings > 0n, `offsets ${offsets}`);
    }
    // A lookup that no bag reads is checked as well.
    const tail = {
      ...bagsOf(good),
      offsets: integers([0, 3, 3, 4, 6], type),
      indices: integers([1, 2, 3, 4, 0, 9, 9, 10]),
    };
    assert.equal((await pool(problemOf(table, 4, tail))).findings, 1n);
  }
});

test('repairs are those of the reference', { skip }, async () => {
  const random = new Random(17);
  const tables = [
    randomTable(random, { rows: 10, dim: 40 }),
    randomTable(random, { rows: 10, dim: 8, mode: 'mean', paddingIdx: 0 }),
  ];
  const bags: Bags[] = [
    { indices: integers([1, -2, 3, 99, 0, 2 ** 40]), offsets: integers([2, 1, 9]) },
    { indices: integers([1, -2, 3, 99, 0], 'int32'), offsets: integers([0, -3, 2, 77], 'int32') },
  ];
  const problem = { tables, batch: { batchSize: 3, bags } };
  const { pooled } = await pool(problem, { checking: 'repair' });
  const expected = referenceEmbeddingBags(tables, problem.batch, 'ignore', 'float32').pooled;
  assertSameValues(pooled, expected, 'repairs');
});

test('pruned rows are not read: every flight, tile, and checking, lookups of no bag among them', {
  skip,
}, async () => {
  const random = new Random(19);
  const specs = [
    { dim: 128 },
    { dim: 16, mode: 'mean', paddingIdx: 4 },
    { dim: 300, mode: 'max', rowFormat: 'float16' },
    { dim: 40, mode: 'mean', rowFormat: 'int8' },
    { dim: 8, rowWeights: true, paddingIdx: 0 },
  ] as const;
  const tables = specs.map((spec) => randomTable(random, { ...spec, rows: 20, pruned: true }));
  const lengths = [0, 45] as const;
  const bags = tables.map((_, t): Bags => {
    const index = t % 2 === 0 ? 'int64' : 'int32';
    const own = randomBags(random, { batch: 11, rows: 20, lengths, index, pruned: true, endOffset: true });
    const unread = integers([...(own.indices as Iterable<number | bigint>), -1, 3, -1], index);
    return { ...own, indices: unread };
  });
  const problem = { tables, batch: { batchSize: 11, bags } };
  // Each checking with each of these, and pipelined or not with each of both.
  const flights = [{ inFlight: 1 }, { inFlight: 8, laneBytes: 4 }, { bagsPerGroup: 3, backwards: true }];
  const cases = (['none', 'stop', 'repair'] as const).flatMap((checking, c) =>
    flights.map((options, f) => ({ checking, options, pipelined: (c + f) % 2 === 1 })),
  );
  await together(cases, async ({ checking, options, pipelined }) => {
    const { pooled, findings } = await pool(problem, { checking, pipelined, ...options });
    assert.equal(findings, 0n);
    assertExact(pooled, problem, `${checking}, ${JSON.stringify(options)}, pipelined: ${pipelined}`);
  });
});
