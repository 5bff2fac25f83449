/** Models that are no DLRM on the command line: `inspect` and `predict` in text, JSON and files. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readSafetensors } from '../../../src/formats/safetensors.ts';
import { type NamedTensors, values, writeCheckpoint } from '../../support/checkpoints.ts';
import { hotrow } from '../../support/cli.ts';
import { D, deepFmTensors, TASKS, taskTensors } from '../../support/heads.ts';
import { Random } from '../../support/random.ts';

let folder = '';
let request = '';
/** The same lookups without dense features, with offsets or with lengths. */
let offsetsAlone = '';
let lookups = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-heads-'));
  const tensors: NamedTensors = new Map();
  for (const t of [0, 1]) {
    tensors.set(`indices.${t}`, { dtype: 'int32', shape: [3], data: Int32Array.of(1, 4, t) });
    tensors.set(`offsets.${t}`, { dtype: 'int32', shape: [2], data: Int32Array.of(0, 2) });
  }
  offsetsAlone = await writeCheckpoint(join(folder, 'offsets.safetensors'), tensors);
  tensors.set('dense', values(new Random(5), 2, 3));
  request = await writeCheckpoint(join(folder, 'request.safetensors'), tensors);
  tensors.delete('dense');
  for (const t of [0, 1]) {
    tensors.delete(`offsets.${t}`);
    tensors.set(`lengths.${t}`, { dtype: 'int32', shape: [2], data: Int32Array.of(2, 1) });
  }
  lookups = await writeCheckpoint(join(folder, 'lookups.safetensors'), tensors);
});
after(() => rm(folder, { recursive: true }));

async function succeeds(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await hotrow(...args);
  assert.equal(code, 0, stderr);
  return stdout;
}

const json = async (...args: string[]) => JSON.parse(await succeeds(...args, '--format', 'json'));

test('SimpleDeepFMNN: its blocks, its probabilities, and the description of both', async () => {
  const model = await writeCheckpoint(join(folder, 'deepfm.safetensors'), deepFmTensors());
  const text = await succeeds('inspect', model);
  assert.match(text, /deep +MLP 12 → 6, of bottom, pooled/);
  assert.match(text, /fm +factorization machine of 12 elements, of bottom, pooled/);
  assert.match(text, /output +probability/);
  const summary = await json('inspect', model);
  // 5·3 + 5, 4·5 + 4, 6·12 + 6, 11 + 1 of layers; 6·4 and 7·4 of tables.
  assert.equal(summary.parameters, 20 + 24 + 78 + 12 + 52);
  assert.deepEqual(summary.outputs, [{ name: 'top', width: 1 }]);
  const { probabilities, outputs, stages } = await json('predict', model, request, '--device', 'cpu');
  assert.equal(probabilities.length, 2);
  assert.equal(outputs, undefined);
  assert.ok(stages.interactionMs >= 0);
  const description = join(folder, 'described.hotrow.json');
  await succeeds('inspect', model, '--write-description', description);
  assert.equal(JSON.parse(await readFile(description, 'utf8')).blocks.length, 4);
  const described = await json('predict', description, request, '--device', 'cpu');
  assert.deepEqual(described.probabilities, probabilities);
});

test('several outputs, by their names: printed, as JSON, as tensors', async () => {
  await writeCheckpoint(join(folder, 'tasks.safetensors'), taskTensors());
  const model = join(folder, 'tasks.hotrow.json');
  const outputs = ['cvr', 'ctr'];
  await writeFile(
    model,
    JSON.stringify({ kind: 'model', version: 1, checkpoint: 'tasks.safetensors', ...TASKS, outputs }),
  );
  assert.match(await succeeds('inspect', model), /outputs +cvr \[B, 2\], ctr \[B, 1\]/);
  const out = join(folder, 'out.safetensors');
  const answer = await json('predict', model, request, '--device', 'cpu', '--out', out);
  assert.equal(answer.probabilities, undefined);
  assert.deepEqual(
    [answer.outputs.ctr.length, answer.outputs.cvr.map((row: number[]) => row.length)],
    [2, [2, 2]],
  );
  const { tensors } = await readSafetensors(out);
  assert.deepEqual([...tensors].map(([name, { shape }]) => [name, [...shape]]).sort(), [
    ['ctr', [2, 1]],
    ['cvr', [2, 2]],
  ]);
  const text = await succeeds('predict', model, request, '--device', 'cpu');
  assert.match(text, /sample +cvr\[0\] +cvr\[1\] +ctr/);
});

test('tables alone: their pooled rows, for a request without dense features', async () => {
  const random = new Random(3);
  const tables: NamedTensors = new Map(
    [0, 1].map((t) => [`ebc.embedding_bags.t_${t}.weight`, values(random, 6 + t, D)]),
  );
  const model = await writeCheckpoint(join(folder, 'tables.safetensors'), tables);
  assert.match(await succeeds('inspect', model), /output +pooled \[B, 8\]/);
  const { pooled, probabilities } = await json('predict', model, lookups, '--device', 'cpu');
  assert.equal(probabilities, undefined);
  assert.deepEqual(
    pooled.map((row: number[]) => row.length),
    [2 * D, 2 * D],
  );
  const rows = tables.get('ebc.embedding_bags.t_0.weight')?.data as Float32Array;
  assert.equal(pooled[0][0], Math.fround((rows[D] as number) + (rows[4 * D] as number)));
  const unknown = await hotrow('predict', model, offsetsAlone, '--device', 'cpu');
  assert.deepEqual([unknown.code, /nothing says how many samples there are/.test(unknown.stderr)], [1, true]);
  const refused = await hotrow('predict', model, request, '--device', 'cpu');
  assert.deepEqual([refused.code, /error\[TENSOR_SHAPE\]/.test(refused.stderr)], [1, true], refused.stderr);
  const description = join(folder, 'tables-described.hotrow.json');
  await succeeds('inspect', model, '--write-description', description);
  assert.deepEqual((await json('predict', description, lookups, '--device', 'cpu')).pooled, pooled);
});
