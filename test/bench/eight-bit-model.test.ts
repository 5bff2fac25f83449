/** Models that exist to be timed, in 8 bits: which layers get scales, and what the results say of it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { at } from '../../src/at.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { compareModel } from '../../src/bench/compare-model.ts';
import { eightBitModel } from '../../src/bench/eight-bit-model.ts';
import { mlperfBagLengths, mlperfModel } from '../../src/bench/synthetic-model.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { fitsEightBits } from '../../src/dense/place-layer.ts';
import { float8ToNumber } from '../../src/float8.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { headOf } from '../../src/model/head.ts';
import { layersOf } from '../../src/model/placed-head.ts';
import { plainPlan } from '../../src/plan/plan.ts';
import { type HostTensor, toFloat32 } from '../../src/tensor.ts';

describe('synthetic models in 8 bits', () => {
  let backend: CpuBackend;
  before(() => {
    backend = new CpuBackend({ threads: 2 });
  });
  after(() => backend[Symbol.dispose]());

  const architecture = mlperfModel({ tables: 2, rows: 50, dim: 16, rowFormat: 'float32' });
  const shape = { architecture, bagLengths: mlperfBagLengths(2), batches: 2, seed: 1 };
  const workload = patternWorkload('random', { ...shape, batchSize: 24 });
  const precision = 'float8_e4m3' as const;

  test('weights may have one scale, that of their largest value', async () => {
    const options = { backend, precision, weightScales: 'tensor' } as const;
    const { architecture: measured } = await eightBitModel(architecture, [workload.model], options);
    const given = layersOf(headOf(architecture));
    for (const [i, { weight, scales }] of layersOf(headOf(measured)).entries()) {
      if (scales === undefined) continue;
      const [own, ...others] = new Set(toFloat32(scales.weight as HostTensor));
      const values = toFloat32(at(given, i).weight as HostTensor);
      const largest = values.reduce((most, w) => Math.max(most, Math.abs(w)), 0);
      assert.deepEqual([own, others.length], [Math.fround(largest / 448), 0]);
      const rounded = Array.from((weight as HostTensor).data as Uint8Array, float8ToNumber);
      const lost = values.map((w, k) => Math.abs(w - at(rounded, k) * (own as number)));
      assert.ok(
        lost.every((size, k) => size <= Math.max(Math.abs(at(values, k)) / 15, (own as number) / 512)),
      );
    }
  });

  test('layers that gain by it have weights in 8 bits, and twice what the first batch reached as scale', async () => {
    const { architecture: measured } = await eightBitModel(architecture, [workload.model], {
      backend,
      precision,
    });
    const [own, given] = [layersOf(headOf(measured)), layersOf(headOf(architecture))];
    assert.deepEqual(
      own.map(({ scales }) => scales !== undefined),
      given.map(fitsEightBits),
    );
    // All but the first, of 13 dense features, and the last, of one output.
    assert.equal(own.filter(({ scales }) => scales === undefined).length, 2);
    for (const { weight, scales, inputs, outputs } of own) {
      if (scales === undefined) continue;
      assert.deepEqual([weight.dtype, weight.shape], ['float8_e4m3', [outputs, inputs]]);
      assert.ok(scales.input !== undefined);
    }
    // Of the first cross layer, whose inputs are what the dense features and the lookups gave: rows in [−1, 1), added up.
    const scale = at(toFloat32(own[3]?.scales?.input as HostTensor), 0);
    assert.ok(scale > 2 / 448 && scale < 20 / 448, `${scale}`);
    const scores = async (model: typeof measured) => {
      await using placed = await DlrmModel.create(backend, model);
      assert.equal(placed.precision, model === measured ? precision : 'float32');
      const { probabilities } = await placed.predict(at(workload.model.requests, 1));
      return probabilities.map((p) => Math.log(p) - Math.log1p(-p));
    };
    const [eight, wide] = [await scores(measured), await scores(architecture)];
    // Weights are drawn, and cancel: each layer of 12 loses some percent of what it adds up. Saturated scores are beside the point.
    const finite = [...eight.keys()].filter((i) => [eight, wide].every((own) => Number.isFinite(own[i])));
    const size = (of: (i: number) => number) => Math.sqrt(finite.reduce((sum, i) => sum + of(i) ** 2, 0));
    const [apart, whole] = [size((i) => at(eight, i) - at(wide, i)), size((i) => at(wide, i))];
    assert.ok(finite.length > 12 && apart > 0 && apart < whole / 3, `${apart} of ${whole}`);
  });

  test('no other model is changed, nor one in another precision', async () => {
    const own = { ...architecture, naming: 'dlrm' } as const;
    const models = [workload.model];
    assert.deepEqual(await eightBitModel(own, models, { backend, precision }), { architecture: own });
    for (const options of [{ backend }, { backend, precision: 'float32' as const }])
      assert.deepEqual(await eightBitModel(architecture, models, options), { architecture });
  });

  test('where inputs reach beyond float16, rows keep their scales, and that is said', async () => {
    const large = { ...at(workload.model.requests, 0) };
    const requests = [{ ...large, dense: large.dense.map((x) => 1e6 * x) }];
    const measured = await eightBitModel(architecture, [{ requests }], { backend, precision });
    assert.equal(measured.architecture, architecture);
    assert.match(
      measured.scales ?? '',
      /^a scale for each row .* layer bottom\.2: its inputs reach .* float16/,
    );
    const nan = [{ ...large, dense: large.dense.map(() => Number.NaN) }];
    await assert.rejects(eightBitModel(architecture, [{ requests: nan }], { backend, precision }), {
      code: 'VALUE_NOT_FINITE',
    });
  });

  test('results say where scales are from', async () => {
    const { protocol, rows } = await compareModel({
      ...{ backend, architecture, workloads: [workload], precision, rounds: 1 },
      ceilings: { readBytesPerSecond: 1e9, multiplyAddsPerSecond: 1e9 },
      given: plainPlan('cpu'),
      ...{ best: new Map(), peers: false, notes: [], progress: () => {}, stop: () => false },
    });
    assert.ok(protocol.some((line) => line.includes('scales from the first batch')));
    assert.deepEqual([...new Set(rows.map((row) => row.precision))], [precision]);
  });
});
