/** Peers over stand-ins for their libraries: what is measured and said, not how fast. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { PeerTimes } from '../../src/bench/embedding-peer.ts';
import { Peers, peersOn } from '../../src/bench/peers.ts';
import type { DeviceDescription } from '../../src/device.ts';
import type { Bags, EmbeddingTable } from '../../src/embedding/bag.ts';
import { type RowFormat, weightShape } from '../../src/embedding/row-format.ts';
import { GPU_CAPABILITIES } from '../support/devices.ts';
import { noStandIns, refuseStandIns, standIns } from './stand-ins.ts';

const GPU: DeviceDescription = {
  kind: 'cuda',
  id: 'cuda:0',
  name: 'stand-in',
  architecture: 'sm_90',
  threads: 1,
  memoryBytes: 1,
  versions: {},
  capabilities: GPU_CAPABILITIES,
};

function tableOf(rowFormat: RowFormat, change: Partial<EmbeddingTable> = {}): EmbeddingTable {
  const shape = { rows: 5, dim: 8, rowFormat, ...change };
  const { dtype, shape: extents } = weightShape(shape);
  // Only shapes go to peers.
  const weight = { dtype, shape: extents, data: new Uint8Array(0) };
  return { name: 'table', mode: 'sum', weight, ...shape, ...change };
}

/** Bags of 2, 0 and the rest. */
function bagsOf(...rows: number[]): Bags {
  return { indices: BigInt64Array.from(rows, BigInt), offsets: BigInt64Array.of(0n, 2n, 2n) };
}

const BATCHES = [
  [bagsOf(4, 0, 1, 1), bagsOf(0, 3, 2)],
  [bagsOf(1, 2, 3), bagsOf(2, 2)],
];

interface Outcome {
  readonly notes: readonly string[];
  /** By implementation: the variant, and the times of one turn. */
  readonly measured: ReadonlyMap<string, { readonly variant: string; readonly times: readonly PeerTimes[] }>;
}

/** Two patterns of two batches. */
async function measure(
  tables: readonly EmbeddingTable[],
  goesWrong = '',
  indexType: 'int32' | 'int64' = 'int64',
): Promise<Outcome> {
  standIns(goesWrong);
  const notes: string[] = [];
  const measured = new Map<string, { variant: string; times: readonly PeerTimes[] }>();
  await using peers = await Peers.start(peersOn('cuda'), GPU, { tables, indexType }, notes);
  for (const pattern of ['hot', 'cold']) {
    await peers.each(pattern, (peer) => peer.load(BATCHES));
    for (let round = 0; round < 6; round++) {
      await peers.each(pattern, async (peer) => {
        measured.set(peer.implementation, { variant: peer.variant, times: await peer.run([1, 0, 1]) });
      });
    }
  }
  for (const name of measured.keys()) {
    if (!peers.running.some(({ implementation }) => implementation === name)) measured.delete(name);
  }
  return { notes, measured };
}

const PYTORCH = 'PyTorch 0.0.1+stand-in';
const FBGEMM = 'FBGEMM 0.0.2';
const OPERATOR = 'IntNBitTableBatchedEmbeddingBagsCodegen';

describe('peers', { skip: refuseStandIns }, () => {
  afterEach(noStandIns);

  test('both are measured: PyTorch a launch a table, FBGEMM one for all', async () => {
    const { notes, measured } = await measure([tableOf('float32'), tableOf('float32')]);
    assert.deepEqual(notes, []);
    assert.deepEqual(Object.fromEntries(measured), {
      [PYTORCH]: {
        variant: 'embedding_bag',
        times: Array(3).fill({ seconds: 0.002, launches: [0.001, 0.001] }),
      },
      [FBGEMM]: {
        variant: `${OPERATOR}, int64 indices`,
        times: Array(3).fill({ seconds: 0.003, launches: [0.003] }),
      },
    });
  });

  for (const rowFormat of ['float16', 'int8', 'int4', 'float8_e4m3'] as const) {
    for (const mode of ['sum', 'mean'] as const) {
      test(`FBGEMM pools rows of ${rowFormat} to their ${mode}`, async () => {
        const tables = [tableOf(rowFormat, { mode }), tableOf(rowFormat, { mode, dim: 20, rows: 4 })];
        const { notes, measured } = await measure(tables);
        assert.ok(measured.has(FBGEMM), notes.join());
        assert.equal(
          notes.some((note) => note.includes('FBGEMM')),
          false,
        );
      });
    }
  }

  const refused: [string, EmbeddingTable[], RegExp][] = [
    [
      'bfloat16',
      [tableOf('bfloat16')],
      /^FBGEMM was not measured: rows of bfloat16 are not offered by FBGEMM$/,
    ],
    ['max', [tableOf('float32', { mode: 'max' })], /^FBGEMM was not measured: pooling by max is not offered/],
    [
      'padding',
      [tableOf('float32', { paddingIdx: 1 })],
      /^FBGEMM was not measured: the tables differ in pooling/,
    ],
  ];
  test('features on one table have no peer', async () => {
    const table = tableOf('float32');
    const { notes, measured } = await measure([table, { ...table }]);
    assert.equal(measured.has(FBGEMM), false);
    assert.match(notes.join(), /FBGEMM was not measured: features share tables/);
  });
  for (const [what, tables, reason] of refused) {
    test(`what FBGEMM does not offer is said: ${what}`, async () => {
      const { notes, measured } = await measure([...tables, ...structuredClone(tables)]);
      assert.equal(measured.has(FBGEMM), false);
      assert.equal(notes.filter((note) => reason.test(note)).length, 1, notes.join());
    });
  }

  // Why, and the only note that names FBGEMM.
  const absent: [string, RegExp][] = [
    ['absent', /^FBGEMM was not measured: python3\b.*: no module fbgemm_gpu$/],
    ['no-gpu', /^FBGEMM was not measured: python3\b.*: PyTorch 0\.0\.1\+stand-in sees no GPU$/],
    ['no-kernels', /^FBGEMM 0\.0\.2 was not measured: Could not run the operator .* 'CUDA' backend\.$/],
    [
      'wrong-sums',
      /^FBGEMM 0\.0\.2 failed on hot .*: it pools other values than it should: table 0, bag 0, element 0/,
    ],
    [
      'wrong-rows',
      /^FBGEMM 0\.0\.2 failed on hot .*: it looked up other rows than it should: table 0, bag 0$/,
    ],
    ['fails-late', /^FBGEMM 0\.0\.2 failed on hot and was .*: an illegal memory access was encountered$/],
    ['dies-late', /^FBGEMM 0\.0\.2 failed on hot and was .*: the FBGEMM process ended$/],
  ];
  for (const [goesWrong, reason] of absent) {
    test(`why FBGEMM is not measured is said once: ${goesWrong}`, async () => {
      const { notes, measured } = await measure([tableOf('float32'), tableOf('float32')], goesWrong);
      assert.equal(measured.has(FBGEMM), false);
      const [own, ...more] = notes.filter((note) => note.startsWith('FBGEMM'));
      assert.match(own ?? '', reason);
      assert.deepEqual(more, []);
      assert.equal(measured.has(PYTORCH), goesWrong !== 'no-gpu', 'the other peer goes on');
    });
  }

  test('an error for a format concerns that format only', async () => {
    const int8 = await measure([tableOf('int8'), tableOf('int8')], 'no-int8');
    assert.ok(
      int8.notes.includes('FBGEMM 0.0.2 was not measured: INT8 rows need a newer GPU'),
      int8.notes.join(),
    );
    const int4 = await measure([tableOf('int4'), tableOf('int4')], 'no-int8');
    assert.ok(int4.measured.has(FBGEMM), int4.notes.join());
  });

  test('a version that takes int32 indices only is measured by those, and that is said', async () => {
    const { notes, measured } = await measure([tableOf('float32'), tableOf('float32')], 'int32-only');
    assert.equal(measured.get(FBGEMM)?.variant, `${OPERATOR}, int32 indices`);
    assert.deepEqual(notes, ['FBGEMM 0.0.2 takes int32 indices: it looked the same rows up by those']);
    const narrow = await measure([tableOf('float32'), tableOf('float32')], 'int32-only', 'int32');
    assert.deepEqual(narrow.notes, []);
  });

  test('a library that prints much while it loads is measured', async () => {
    const { measured } = await measure([tableOf('float32'), tableOf('float32')], 'slow-to-say');
    assert.ok(measured.has(FBGEMM));
  });
});

test('a CPU has no peer but PyTorch', () => {
  assert.deepEqual(
    peersOn('cpu').map(({ name }) => name),
    ['PyTorch'],
  );
});
