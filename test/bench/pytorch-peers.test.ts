/** PyTorch's processes: how they answer, with a stand-in for torch, and what they time, where there is PyTorch. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { EmbeddingPeer, type PeerKind } from '../../src/bench/embedding-peer.ts';
import { PEERS } from '../../src/bench/peers.ts';
import { variantsBeside } from '../../src/bench/pytorch-model.ts';
import { PytorchProcess } from '../../src/bench/pytorch-process.ts';
import { syntheticTables } from '../../src/bench/synthetic-model.ts';
import type { DensePrecision } from '../../src/device.ts';

/** As much of torch as it takes to make a peer's tables; more than 1,000 rows are more than its memory holds. */
const STAND_IN = `
import contextlib

__version__ = "9.9"
float32 = int64 = None
threads = 0

class cuda:
    is_available = staticmethod(lambda: False)

class Tensor:
    to = lambda self, _: self
    split = lambda self, rows: [self for _ in rows]

def rand(rows, dim, **_):
    if rows > 1000:
        raise RuntimeError("out of memory\\nstack")
    return Tensor()

def set_num_threads(count):
    global threads
    threads = count

get_num_threads = lambda: threads
no_grad = contextlib.nullcontext
tril_indices = lambda *_, **__: None
`;

const python = spawnSync('python3', ['--version']).status === 0 ? false : 'there is no python3';
let folder = '';
const pythonPath = process.env.PYTHONPATH;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-peers-'));
});
after(() => rm(folder, { recursive: true }));

/** A script's process that imports what `torch` says; `use` with it, or with why there is none. */
async function withTorch<T>(
  torch: string,
  script: string,
  use: (started: PytorchProcess | string) => Promise<T>,
): Promise<T> {
  await writeFile(join(folder, 'torch.py'), torch);
  process.env.PYTHONPATH = folder;
  try {
    const started = await PytorchProcess.start(script, 'cpu');
    if (typeof started === 'string') return await use(started);
    await using _ = started;
    return await use(started);
  } finally {
    if (pythonPath === undefined) delete process.env.PYTHONPATH;
    else process.env.PYTHONPATH = pythonPath;
  }
}

const MODEL = { bottom: [], top: [] };
const setUps = { 'pytorch_embedding_bag.py': {}, 'pytorch_dlrm.py': MODEL };

for (const [script, shape] of Object.entries(setUps)) {
  describe(script, { skip: python }, () => {
    const setUp = (rows: number, threads: number) => ({
      setup: { tables: [[rows, 4, 'float32']], mode: 'sum', threads, device: 'cpu', ...shape },
    });

    test('says its version, answers, and goes on after a command that fails', () =>
      withTorch(STAND_IN, script, async (started) => {
        assert.ok(typeof started === 'object', String(started));
        assert.equal(started.version, '9.9');
        assert.deepEqual(await started.ask(setUp(10, 3)), { threads: 3 });
        await assert.rejects(started.ask(setUp(1001, 3)), { message: 'out of memory' });
        assert.deepEqual(await started.ask(setUp(20, 5)), { threads: 5 });
      }));

    test('without torch, says why', () =>
      withTorch('raise ImportError("no torch here")', script, async (started) => {
        assert.match(String(started), /^PyTorch was not measured: .*no torch here/);
      }));
  });
}

test("PyTorch's embedding bags take time for every batch that is asked for", async (t) => {
  const started = await EmbeddingPeer.start(PEERS[0] as PeerKind, 'cpu');
  if (typeof started === 'string') return t.skip(started);
  await using peer = started;
  const tables = syntheticTables({ tables: 2, rows: 50, dim: 8, rowFormat: 'float32' });
  await peer.setUp({ tables, indexType: 'int64', threads: 1 });
  const bags = { indices: BigInt64Array.of(3n, 49n, 7n), offsets: BigInt64Array.of(0n, 2n) };
  await peer.load([
    [bags, bags],
    [bags, bags],
  ]);
  const times = await peer.run([1, 0, 1]);
  assert.equal(times.length, 3);
  for (const { seconds, launches } of times) {
    assert.ok(seconds > 0);
    assert.deepEqual(launches, []);
  }
});

test("PyTorch's model takes time for every round", async (t) => {
  const started = await PytorchProcess.start('pytorch_dlrm.py', 'cpu');
  if (typeof started === 'string') return t.skip(started);
  await using model = started;
  const layers = { bottom: [[8, 5]], cross: [[24, 2]], top: [[1, 24]] };
  const tables = [
    [50, 8, 'float32'],
    [9, 8, 'float32'],
  ];
  await model.ask({ setup: { tables, mode: 'sum', ...layers, threads: 1, device: 'cpu' } });
  const bags = { indices: Int32Array.of(3, 49, 7), offsets: Int32Array.of(0, 2) };
  const others = { indices: Int32Array.of(8), offsets: Int32Array.of(0, 0) };
  await model.withLookups([[bags, others]], (batches) => model.ask({ load: { batches, batchSize: 2 } }));
  for (const oneTable of [false, true]) {
    const run = { variant: 'eager', precision: 'float32', oneTable, rounds: 3 };
    const { latencies, batchSeconds } = await model.ask({ run });
    assert.equal((latencies as number[]).length, 3);
    assert.ok((batchSeconds as number) > 0);
  }
});

test('beside 16 and 8 bits stand the fastest forms of PyTorch, its tables as one where they are alike', () => {
  const alike = syntheticTables({ tables: 2, rows: 50, dim: 8, rowFormat: 'float16' });
  const [first] = alike;
  const unlike = [...alike, { ...(first as (typeof alike)[number]), dim: 16 }];
  const said = (precision: DensePrecision, tables: typeof alike) =>
    variantsBeside(precision, tables).map(({ variant, precision: own, oneTable }) => [
      variant,
      own,
      oneTable,
    ]);
  assert.deepEqual(said('float16', alike), [
    ['graph', 'float16', false],
    ['graph', 'float16', true],
    ['compile', 'float16', true],
  ]);
  assert.deepEqual(said('bfloat16', unlike), [
    ['graph', 'bfloat16', false],
    ['compile', 'bfloat16', false],
  ]);
  assert.deepEqual(said('tf32', alike), said('float32', unlike));
});
