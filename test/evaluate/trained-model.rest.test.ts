/** The model that accuracy is measured on: what the recipe writes is read, and scores as PyTorch's does. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { at } from '../../src/at.ts';
import { evaluate } from '../../src/evaluate/evaluate.ts';
import { readLabels } from '../../src/evaluate/labels.ts';
import { loadModel } from '../../src/index.ts';
import { readRequestFile } from '../../src/workload/request-file.ts';
import { samplesOf } from '../../src/workload/traffic/samples.ts';

const RECIPE = fileURLToPath(new URL('../../bench/accuracy/train_dlrm_dcnv2.py', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'hotrow-trained-'));
after(() => rmSync(folder, { recursive: true }));

const python = ['python3', '/usr/bin/python3'].find(
  (one) => spawnSync(one, ['-c', 'import torch']).status === 0,
);

test('a trained model, its requests and its labels are what PyTorch had', {
  skip: python === undefined && 'no Python here has PyTorch',
}, async () => {
  const flags = ['--device', 'cpu', '--small', '--samples', '50000', '--evaluation', '3000'];
  const { stdout, stderr } = spawnSync(python as string, ['-B', RECIPE, folder, ...flags], {
    encoding: 'utf8',
  });
  const line = stdout.split('\n').find((one) => one.startsWith('{'));
  assert.ok(line !== undefined, stderr);
  const said = JSON.parse(line) as { readonly model: { readonly logLoss: number; readonly auc: number } };

  await using model = await loadModel(join(folder, 'model.safetensors'), { device: 'cpu' });
  const files = readdirSync(folder).filter((name) => name.startsWith('requests-'));
  const { request } = await readRequestFile(join(folder, at(files, 0)), model.architecture);
  const { quality } = await evaluate({
    model,
    reference: model,
    requests: [samplesOf(request, model.architecture)],
    labels: await readLabels(join(folder, 'labels.safetensors')),
    seed: 0,
    batchSize: 1000,
  });
  assert.ok(quality?.model.auc !== undefined);
  assert.ok(Math.abs(quality.model.logLoss - said.model.logLoss) < 1e-5);
  assert.ok(Math.abs(quality.model.auc - said.model.auc) < 1e-4);
});
