/** The benchmark, given up at each of its stages: peers are ended, and neither memory nor files stay. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { bench } from '../../src/bench/bench.ts';
import { peersOn } from '../../src/bench/peers.ts';
import { PytorchProcess } from '../../src/bench/pytorch-process.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { abortedAfter, assertAbortedAt, assertAbortedBefore, type Watch } from '../support/abort.ts';
import { randomTable } from '../support/cases.ts';
import { smallModel } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';
import { noStandIns, refuseStandIns, standIns } from './stand-ins.ts';

const random = new Random(1);
const whole = smallModel(random, 'dot-lower');
/** As peers pool them. */
const tables = Array.from({ length: 2 }, () =>
  randomTable(random, { rows: 20, dim: 8, rowFormat: 'float32', mode: 'sum' }),
);

const run =
  (peers: boolean) =>
  async ({ signal, onProgress }: Watch) => {
    using backend = peers ? new ReferenceGpu() : new CpuBackend({ threads: 1 });
    const architecture = peers ? { ...whole, tables } : whole;
    const shape = { architecture, batchSize: 3, bagLengths: '2', batches: 2, seed: 1 };
    return await bench({
      ...{ backend, architecture, peers, bagLengths: '2', seed: 1, indexType: 'int64' as const },
      ...{ workloads: [patternWorkload('random', shape)], signal, onProgress },
      preset: 'quick',
      command: 'hotrow bench',
      embeddingRounds: 2,
      modelRounds: peers ? 0 : 2,
      sweeps: [],
    });
  };

test('before, at each stage, and afterwards', async () => {
  const call = run(false);
  await assertAbortedBefore(call);
  await assertAbortedAt(/^measuring the ceilings$/, undefined, call);
  await assertAbortedAt(/^placing tables$/, 2, call);
  await assertAbortedAt(/^racing plans, random: \d+ plans, 5 batches each$/, undefined, call);
  await assertAbortedAt(/^embedding stage, random: comparing results$/, 1, call);
  await assertAbortedAt(/^embedding stage, random: rounds$/, 2, call);
  await assertAbortedAt(/^whole model, /, 1, call);
  const { model } = await abortedAfter(call);
  assert.ok(model.length > 0);
});

describe('with peers', { skip: refuseStandIns }, () => {
  const own = mkdtempSync(join(tmpdir(), 'hotrow-abort-bench-'));
  const { TMPDIR } = process.env;
  before(() => {
    process.env.TMPDIR = own;
  });
  after(() => {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
    rmSync(own, { recursive: true });
  });
  afterEach(noStandIns);

  /** Programs that this process has started and that have not ended. */
  const children = () =>
    readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')
      .split(' ')
      .filter((pid) => pid !== '').length;

  test('they are ended, and their files are removed', async () => {
    standIns('');
    const call = run(true);
    const none = children();
    const both = () => assert.equal(children(), none + peersOn('cuda').length, 'not vacuous: both run');
    await assertAbortedAt(/^embedding stage, random: comparing results$/, 1, call, both);
    assert.equal(children(), none);
    await assertAbortedAt(/^embedding stage, random: rounds$/, 2, call, both);
    assert.equal(children(), none);
    assert.deepEqual(readdirSync(own), []);
  });

  test('one that is at work, or only starting, is not waited for', async () => {
    standIns('');
    const controller = new AbortController();
    const started = await PytorchProcess.start('pytorch_embedding_bag.py', 'cuda', {
      signal: controller.signal,
    });
    assert.ok(typeof started === 'object', String(started));
    await using peer = started;
    const batches = [[{ indices: BigInt64Array.of(1n), offsets: BigInt64Array.of(0n) }]];
    const lookups = peer.withLookups(batches, async () => {
      assert.equal(readdirSync(own).length, 1);
      const asking = peer.ask({ setup: { tables: [], mode: 'sum', threads: 1, device: 'cuda' } });
      controller.abort('why');
      return asking;
    });
    await assert.rejects(lookups, { code: 'ABORTED', cause: 'why' });
    assert.deepEqual(readdirSync(own), []);

    const starting = new AbortController();
    const start = PytorchProcess.start('pytorch_embedding_bag.py', 'cuda', { signal: starting.signal });
    starting.abort('why');
    await assert.rejects(start, { code: 'ABORTED' });
  });
});
