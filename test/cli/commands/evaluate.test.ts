/** `hotrow evaluate` as a user types it. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import Value from 'typebox/value';
import { evaluateSchema } from '../../../src/evaluate/results.ts';
import { hotrow } from '../../support/cli.ts';
import { goldenPath } from '../../support/golden.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-evaluate-cli-'));
after(() => rmSync(folder, { recursive: true }));

const MODEL = goldenPath('criteo_dlrm.safetensors');
const [SAMPLES, VOCABULARY] = [goldenPath('criteo_sample.csv'), goldenPath('criteo_vocab.json')];
const OTHER = goldenPath('dlrm_dcnv2.model.safetensors');
const skip =
  [MODEL, SAMPLES, VOCABULARY, OTHER].includes(undefined) && 'no golden files criteo_* and dlrm_dcnv2.*';

describe('hotrow evaluate', { skip }, () => {
  const requests = ['--requests', SAMPLES as string, '--vocabulary', VOCABULARY as string];

  test('compares a quantised checkpoint with its origin, by the labels of its rows', async () => {
    const [int8, json, report] = ['int8.safetensors', 'e.json', 'e.html'].map((name) => join(folder, name));
    const made = await hotrow('quantize', MODEL as string, '--rows', 'int8', '--out', int8 as string);
    assert.equal(made.code, 0, made.stderr);
    const { code, stdout, stderr } = await hotrow(
      ...['evaluate', int8 as string, '--against', MODEL as string, ...requests],
      ...['--json', json as string, '--report', report as string],
    );
    assert.equal(code, 0, stderr);
    for (const said of [
      /probability .* %/,
      /its logit/,
      /log loss [+−]/,
      /AUC \d+\.\d{4} %/,
      /rows in int8/,
      /given: 49 are 1/,
    ])
      assert.match(stdout, said);
    const results = JSON.parse(readFileSync(json as string, 'utf8'));
    assert.deepEqual([...Value.Errors(evaluateSchema, results)], []);
    assert.equal(results.requests.samples, 200);
    assert.ok(results.outputs[0].logit.worst > 0);
    assert.ok(readFileSync(report as string, 'utf8').includes('Calibration'));
  });

  test('refuses models that take other requests, and labels of other samples', async () => {
    const others = await hotrow('evaluate', MODEL as string, '--against', OTHER as string, ...requests);
    assert.equal(others.code, 2);
    assert.match(others.stderr, /do not take the same requests/);
    const labels = await hotrow(
      ...[
        'evaluate',
        MODEL as string,
        '--against',
        MODEL as string,
        ...requests,
        '--labels',
        MODEL as string,
      ],
    );
    assert.equal(labels.code, 1);
    assert.match(labels.stderr, /TENSOR_MISSING/);
  });
});
