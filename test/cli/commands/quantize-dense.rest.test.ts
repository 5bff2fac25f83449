/** `hotrow quantize --dense` as a user types it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { writeSafetensors } from '../../../src/formats/safetensors.ts';
import { writeCheckpoint } from '../../support/checkpoints.ts';
import { hotrow } from '../../support/cli.ts';
import { Random } from '../../support/random.ts';
import { requestTensors, wideDlrm, wideRequest } from '../../support/wide-models.ts';

describe('hotrow quantize --dense', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-quantize-dense-'));
  after(() => rmSync(folder, { recursive: true }));
  const [model, requests, broken, out] = ['m', 'r', 'nan', 'out'].map((name) =>
    join(folder, `${name}.safetensors`),
  ) as [string, string, string, string];

  before(async () => {
    await writeCheckpoint(model, wideDlrm(new Random(3)));
    const request = wideRequest(new Random(4), 200);
    await writeSafetensors(requests, requestTensors(request));
    const dense = request.dense.slice();
    dense[5] = Number.NaN;
    await writeSafetensors(broken, requestTensors({ ...request, dense }));
  });

  const quantize = (...more: string[]) =>
    hotrow('quantize', model, '--dense', 'float8_e4m3', '--device', 'cpu', ...more);

  test('says what it chose and what that loses; evaluate finds about as much, and inspect and predict take the file', async () => {
    const made = await quantize('--calibrate', requests, '--max-loss', '1', '--out', out, '--rows', 'int8');
    assert.equal(made.code, 0, made.stderr);
    for (const said of [
      /2 tables, .* → /,
      /dense layers: 3 of 5 in float8_e4m3, .* % of the multiply-adds/,
      /log loss rises by .* % together, at most 1 % were allowed \(200 samples\)/,
      /bot_l\.0\.weight +4 +32 +float16 +too narrow/,
      /top_l\.0\.weight +19 +48 +float8_e4m3 +\S+ % /,
    ])
      assert.match(made.stdout, said);
    const told = Number(/rises by (\S+) %/.exec(made.stdout)?.[1]);
    // Rows are float32 in the reference of the calibration: here dense layers alone.
    const dense = await quantize(
      '--calibrate',
      requests,
      '--max-loss',
      '1',
      '--out',
      out,
      '--format',
      'json',
    );
    assert.equal(dense.code, 0, dense.stderr);
    const { dense: json, rows } = JSON.parse(dense.stdout);
    assert.equal(rows, undefined);
    assert.ok(Math.abs(100 * json.loss - told) < 0.01 * told);
    assert.deepEqual(
      json.layers.map(({ chosen }: { chosen: boolean }) => chosen),
      [false, true, true, true, false],
    );
    const compared = await hotrow(
      ...['evaluate', out, '--against', model, '--requests', requests, '--device', 'cpu', '--format', 'json'],
    );
    assert.equal(compared.code, 0, compared.stderr);
    const results = JSON.parse(compared.stdout);
    assert.equal(results.model.precision, 'float8_e4m3');
    assert.ok(results.outputs[0].logit.worst > 0 && results.outputs[0].logit.worst < 0.5);
    assert.ok(results.notes.some((note: string) => /3 of 5 dense layers multiply in float8_e4m3/.test(note)));
    const predicted = await hotrow('predict', out, requests, '--device', 'cpu', '--precision', 'float32');
    assert.equal(predicted.code, 0, predicted.stderr);
    assert.match(predicted.stdout, /3 of 5 dense layers are float8_e4m3 in the checkpoint/);
    assert.equal((await hotrow('inspect', out)).code, 0);
  });

  test('refuses what does not belong together, and requests with NaN', async () => {
    for (const [args, said] of [
      [['--out', out], /needs --calibrate/],
      [['--calibrate', requests, '--out', requests], /is a file that is read|overwrite|--out/],
    ] as const) {
      const { code, stderr } = await quantize(...args);
      assert.notEqual(code, 0);
      assert.match(stderr, said);
    }
    const alone = await hotrow('quantize', model, '--calibrate', requests, '--out', out);
    assert.deepEqual([alone.code, /--calibrate is of --dense/.test(alone.stderr)], [2, true]);
    const nothing = await hotrow('quantize', model, '--out', out);
    assert.deepEqual([nothing.code, /nothing is to be converted/.test(nothing.stderr)], [2, true]);
    const nan = await quantize('--calibrate', broken, '--out', join(folder, 'never.safetensors'));
    assert.equal(nan.code, 1);
    assert.match(nan.stderr, /error\[VALUE_NOT_FINITE\]: layer bot_l\.0: input 1 of sample 1 .* is NaN/);
  });
});
