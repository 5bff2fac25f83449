/** A user's own requests through the whole benchmark, over the reference. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import Value from 'typebox/value';
import { bench } from '../../src/bench/bench.ts';
import { resultsSchema } from '../../src/bench/results.ts';
import { type IndexType, trafficWorkload } from '../../src/bench/workload.ts';
import { benchText } from '../../src/cli/bench-text.ts';
import { writeRequest } from '../../src/model/request/safetensors-request.ts';
import { trafficSources } from '../../src/workload/traffic/sources.ts';
import { smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';
import { numbers } from '../support/trace-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-bench-traffic-'));
after(() => rmSync(folder, { recursive: true }));

const architecture = smallModel(new Random(1), 'dot-lower');
const shape = { architecture, batchSize: 99, bagLengths: '2', batches: 2, seed: 1 };
const file = join(folder, 'users.safetensors');

/** Six samples of three users, two tables with a bag per user. */
async function writeUsers() {
  const request = smallRequest(new Random(2), architecture, 6);
  const common = smallRequest(new Random(3), architecture, 3).bags;
  const bags = request.bags.map((own, t) => (t < 2 ? { ...common[t], perUser: true } : own));
  await writeRequest(file, {
    ...request,
    users: Int32Array.of(0, 3, 4, 6),
    bags: bags as typeof request.bags,
  });
}

async function workloadOf(indexType: IndexType, batchSize?: number) {
  await writeUsers();
  const [source] = await trafficSources([file]);
  assert.ok(source !== undefined);
  const batch = batchSize === undefined ? {} : { batchSize };
  return trafficWorkload(source, { ...shape, indexType }, batch);
}

test('indices and offsets have the type that was asked for; bags of users stay theirs', async () => {
  for (const indexType of ['int32', 'int64'] as const) {
    const { embedding, model, recorded } = await workloadOf(indexType, 4);
    const array = indexType === 'int32' ? Int32Array : BigInt64Array;
    for (const { bags } of embedding.batches)
      for (const { indices, offsets } of bags)
        assert.ok(indices instanceof array && offsets instanceof array);
    const [, second] = model.requests;
    assert.deepEqual([second?.batchSize, recorded], [4, true]);
    assert.deepEqual(Array.from(second?.users ?? []), [0, 2, 4], 'the last user, and the first again');
    assert.deepEqual(
      second?.bags.map(({ offsets, perUser }) => [numbers(offsets).length, perUser]),
      [
        [2, true],
        [2, true],
        [4, undefined],
      ],
    );
    assert.notDeepEqual(second?.dense, model.requests[0]?.dense);
  }
});

test('benchmarked: embedding stage and whole model, with what was said of the traffic', async () => {
  const workload = await workloadOf('int64');
  using backend = new ReferenceGpu();
  const results = await bench({
    ...{ backend, architecture, bagLengths: 'recorded lengths', seed: 1, indexType: 'int64' as const },
    ...{ preset: 'quick', command: 'hotrow bench', workloads: [workload], peers: false },
    ...{ embeddingRounds: 1, modelRounds: 1, sweeps: [] },
  });
  assert.deepEqual([...Value.Errors(resultsSchema, results)], []);
  assert.deepEqual([...new Set(results.embedding.map(({ batchSize }) => batchSize))], [6]);
  assert.ok(results.model.some(({ role }) => role === 'tuned'));
  assert.match(benchText(results), /^note: .*users\.safetensors: its 6 samples are fewer than 2 batches/m);
});
