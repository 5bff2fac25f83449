/** Calibration on a CPU, from a checkpoint to one with layers in 8 bits that is loaded again. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { unscaled } from '../../src/backend/scaled-weight.ts';
import { type CalibrationOptions, calibrate } from '../../src/calibrate/calibrate.ts';
import { lossIncrease } from '../../src/calibrate/loss.ts';
import type { DlrmArchitecture } from '../../src/model/architecture.ts';
import { loadCheckpoint } from '../../src/model/checkpoint/checkpoint.ts';
import { quantizeCheckpoint } from '../../src/model/checkpoint/quantize-checkpoint.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { inferArchitecture } from '../../src/model/infer-architecture.ts';
import type { HostTensor } from '../../src/tensor.ts';
import { type Samples, samplesOf } from '../../src/workload/traffic/samples.ts';
import { type NamedTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { Random } from '../support/random.ts';
import { wideDcn, wideDlrm, wideRequest } from '../support/wide-models.ts';

describe('calibrate', () => {
  let folder = '';
  let backend: CpuBackend;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hotrow-calibrate-'));
    backend = new CpuBackend({ threads: 2 });
  });
  after(async () => {
    backend[Symbol.dispose]();
    await rm(folder, { recursive: true });
  });

  let files = 0;
  async function model(tensors: NamedTensors) {
    const file = await writeCheckpoint(join(folder, `${files++}.safetensors`), tensors);
    const { tensors: stored } = await loadCheckpoint(file);
    return { file, stored, architecture: await inferArchitecture(stored) };
  }

  const request = wideRequest(new Random(5), 300);

  function run(
    architecture: Awaited<ReturnType<typeof model>>['architecture'],
    options: Partial<CalibrationOptions> = {},
  ) {
    return calibrate({
      ...{ backend, architecture, requests: [samplesOf(request, architecture)] },
      ...{ mostLoss: 0.01, inputScales: 'tensor', batchSize: 128 },
      ...options,
    });
  }

  /** Writes what was calibrated, and loads it. */
  async function written(
    { stored, architecture }: Awaited<ReturnType<typeof model>>,
    { layers }: Awaited<ReturnType<typeof calibrate>>,
  ) {
    const out = join(folder, `${files++}.safetensors`);
    const names = new Map<unknown, string>([...stored].map(([name, tensor]) => [tensor, name]));
    const chosen = layers.flatMap(({ weight, chosen: own }) =>
      own === undefined ? [] : ([[names.get(weight) as string, own]] as const),
    );
    const order = architecture.tableOrder?.names;
    await quantizeCheckpoint({
      tensors: stored,

      layers: new Map(chosen),
      out,
      ...(order && { tableOrder: order }),
    });
    const { tensors } = await loadCheckpoint(out);
    return { tensors, architecture: await inferArchitecture(tensors) };
  }

  async function logits(
    architecture: Awaited<ReturnType<typeof model>>['architecture'],
    precision?: 'float32' | 'float8_e4m3',
  ): Promise<{ readonly values: Float64Array; readonly model: DlrmModel }> {
    await using placed = await DlrmModel.create(backend, architecture, precision && { precision });
    const { probabilities } = await placed.predict(request);
    return { values: Float64Array.from(probabilities, (p) => Math.log(p) - Math.log1p(-p)), model: placed };
  }

  for (const [name, tensors, wide] of [
    ['facebookresearch/dlrm', wideDlrm, ['bot_l.2', 'top_l.0', 'top_l.2']],
    [
      'DCN',
      wideDcn,
      [
        'V of inter_arch.crossnet.W_kernels.0',
        'inter_arch.crossnet.W_kernels.0',
        'V of inter_arch.crossnet.W_kernels.1',
        'inter_arch.crossnet.W_kernels.1',
        'over_arch.model.0._mlp.0._linear',
      ],
    ],
  ] as const) {
    for (const [inputScales, weightScales] of [
      ['tensor', 'output'],
      ['tensor', 'tensor'],
      ['row', 'output'],
    ] as const) {
      test(`${name}, a scale for inputs of each ${inputScales}, weights of each ${weightScales}: the checkpoint loses what was measured`, async () => {
        const own = await model(tensors(new Random(7)));
        const calibration = await run(own.architecture, { inputScales, weightScales });
        assert.equal(calibration.samples, 300);
        const chosen = calibration.layers.filter((layer) => layer.chosen !== undefined);
        assert.deepEqual(
          chosen.map((layer) => layer.name),
          wide,
        );
        for (const { inputScale, inputsReach, loss, chosen: weight } of chosen) {
          assert.equal(new Set(weight?.scales).size === 1, weightScales === 'tensor');
          assert.ok(loss !== undefined && loss > 0 && loss < 0.01);
          if (inputScales === 'row') assert.equal(inputScale, undefined);
          else assert.ok(Math.abs((inputScale as number) * 224 - inputsReach) < 1e-5 * inputsReach);
        }
        const { tensors: read, architecture } = await written(own, calibration);
        const scales = [...read.keys()].filter((key) => key.endsWith('_scale'));
        assert.equal(scales.length, wide.length * (inputScales === 'row' ? 1 : 2));
        const { values: reference } = await logits(own.architecture);
        const { values, model: placed } = await logits(architecture);
        // The device has the precision, so it is the default.
        assert.equal(placed.precision, 'float8_e4m3');
        const loss = lossIncrease(reference, values);
        assert.ok(Math.abs(loss / calibration.loss - 1) < 1e-2, `${loss} was told as ${calibration.loss}`);
        assert.ok(calibration.loss > 0 && calibration.loss < 0.01);
      });
    }
  }

  test('with another precision the values of the 8-bit weights multiply, and it is said', async () => {
    const own = await model(wideDlrm(new Random(7)));
    const calibration = await run(own.architecture);
    const { architecture } = await written(own, calibration);
    await using placed = await DlrmModel.create(backend, architecture, { precision: 'float32' });
    assert.ok(
      placed.notes.some((note) =>
        /^3 of 5 dense layers are float8_e4m3 in the checkpoint: .* in float32/.test(note),
      ),
    );
    // The same by hand: weights replaced by their values.
    const replaced = (layers: DlrmArchitecture['top']) =>
      layers.map((layer) => {
        const chosen = calibration.layers.find(({ name }) => name === layer.name)?.chosen;
        const data = chosen && unscaled(chosen);
        return data === undefined
          ? layer
          : { ...layer, weight: { dtype: 'float32' as const, shape: layer.weight.shape, data } };
      });
    const { bottom, top } = own.architecture as DlrmArchitecture;
    const byHand = {
      ...(own.architecture as DlrmArchitecture),
      bottom: replaced(bottom),
      top: replaced(top),
    };
    const { probabilities } = await placed.predict(request);
    await using expected = await DlrmModel.create(backend, byHand, { precision: 'float32' });
    assert.deepEqual(probabilities, (await expected.predict(request)).probabilities);
  });

  test('layers that lose too much stay wide', async () => {
    const own = await model(wideDlrm(new Random(7)));
    const all = await run(own.architecture);
    const worst = Math.max(...all.layers.map(({ loss = 0 }) => loss));
    const some = await run(own.architecture, { mostLoss: worst * 0.99 });
    const chosen = some.layers.filter((layer) => layer.chosen !== undefined);
    assert.ok(chosen.length > 0 && chosen.length < 3, `${chosen.length}`);
    assert.ok(some.loss <= worst * 0.99);
    const none = await run(own.architecture, { mostLoss: 0 });
    assert.equal(none.loss, 0);
    assert.ok(none.layers.every((layer) => layer.chosen === undefined));
    // Without scales the file is as it was: nothing is in 8 bits, and nothing is said.
    const { architecture } = await written(own, none);
    assert.equal((await logits(architecture)).model.precision, 'float32');
  });

  test('without scales, float8_e4m3 has every layer in 8 bits that is wide enough', async () => {
    const own = await model(wideDlrm(new Random(7)));
    const { values, model: placed } = await logits(own.architecture, 'float8_e4m3');
    assert.deepEqual(
      placed.notes.filter((note) => note.includes('float8')),
      ['3 of 5 dense layers multiply in float8_e4m3, inputs by a scale for each row; the others in float32'],
    );
    const rows = await run(own.architecture, { inputScales: 'row', weightScales: 'output' });
    const { architecture } = await written(own, rows);
    assert.deepEqual(values, (await logits(architecture)).values);
  });

  describe('refuses, naming the layer', () => {
    const refused = async (tensors: NamedTensors, requests: Samples[] | undefined, expected: object) => {
      const { architecture } = await model(tensors);
      await assert.rejects(run(architecture, requests && { requests }), expected);
    };
    const edited = (name: string, value: number, at = 3) => {
      const tensors = wideDlrm(new Random(7));
      (tensors.get(name) as HostTensor).data[at] = value;
      return tensors;
    };
    const samples = (dense: Float32Array): Samples => ({ ...(samplesFrom as Samples), dense });
    let samplesFrom: Samples | undefined;
    before(async () => {
      samplesFrom = samplesOf(request, (await model(wideDlrm(new Random(7)))).architecture);
    });

    test('requests that hold NaN or infinities', async () => {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const dense = request.dense.slice();
        dense[4 * 130 + 2] = bad;
        await refused(wideDlrm(new Random(7)), [samples(dense)], {
          code: 'VALUE_NOT_FINITE',
          message: `layer bot_l.0: input 2 of sample 130 of the calibration requests is ${bad}`,
        });
      }
    });

    test('requests that do not fit, and none', async () => {
      const { architecture } = await model(wideDlrm(new Random(7)));
      assert.throws(
        () => samplesOf({ ...request, denseFeatures: 3, dense: new Float32Array(900) }, architecture),
        {
          code: 'TENSOR_SHAPE',
        },
      );
      await refused(wideDlrm(new Random(7)), [], { code: 'USAGE', message: /no samples/ });
    });

    test('weights without a scale, and scales that overflow', async () => {
      await refused(edited('top_l.0.weight', Number.NaN), undefined, { code: 'VALUE_NOT_FINITE' });
      await refused(edited('top_l.2.weight', 3e38), undefined, {
        code: /VALUE_/,
        message: /^layer top_l\.[24]: /,
      });
      await refused(edited('bot_l.0.bias', 1e5), undefined, {
        code: 'VALUE_OUT_OF_RANGE',
        message: /^layer bot_l\.2: its inputs reach 1000\d\d\S*, beyond float16/,
      });
    });

    test('layers that are in 8 bits already', async () => {
      const own = await model(wideDlrm(new Random(7)));
      const { architecture } = await written(own, await run(own.architecture));
      await assert.rejects(run(architecture), {
        code: 'CHECKPOINT_UNSUPPORTED',
        message: 'layer bot_l.2 is float8_e4m3 already',
      });
    });
  });

  describe('checkpoints whose scales are none', () => {
    /** A checkpoint with `bot_l.2` in 8 bits, changed. */
    const scaled = (change: (tensors: NamedTensors) => void) => {
      const tensors = wideDlrm(new Random(7));
      tensors.set('bot_l.2.weight', {
        dtype: 'float8_e4m3',
        shape: [16, 32],
        data: new Uint8Array(512).fill(0x38),
      });
      tensors.set('bot_l.2.weight_scale', {
        dtype: 'float32',
        shape: [16],
        data: new Float32Array(16).fill(0.01),
      });
      tensors.set('bot_l.2.weight_input_scale', { dtype: 'float32', shape: [1], data: Float32Array.of(0.1) });
      change(tensors);
      return tensors;
    };
    const data = (tensors: NamedTensors, name: string) => (tensors.get(name) as HostTensor).data;

    test('are as good as written ones otherwise', async () => {
      const { architecture } = await model(scaled(() => {}));
      assert.equal((await logits(architecture)).model.precision, 'float8_e4m3');
    });

    for (const [what, change, expected] of [
      [
        'no scale',
        (tensors) => tensors.delete('bot_l.2.weight_scale'),
        {
          code: 'CHECKPOINT_INCONSISTENT',
          message: /bot_l\.2\.weight_input_scale is there, and the scale of the weight is missing/,
        },
      ],
      [
        'no scales at all',
        (tensors) => {
          for (const part of ['', '_input']) tensors.delete(`bot_l.2.weight${part}_scale`);
        },
        {
          code: 'CHECKPOINT_INCONSISTENT',
          message: /bot_l\.2\.weight is float8_e4m3, and bot_l\.2\.weight_scale is missing/,
        },
      ],
      [
        'scales of a float weight',
        (tensors) =>
          tensors.set('bot_l.2.weight', { dtype: 'float32', shape: [16, 32], data: new Float32Array(512) }),
        { code: 'CHECKPOINT_INCONSISTENT', message: /is float32, and bot_l\.2\.weight_scale is there/ },
      ],
      [
        'too few scales',
        (tensors) =>
          tensors.set('bot_l.2.weight_scale', { dtype: 'float32', shape: [8], data: new Float32Array(8) }),
        {
          code: 'CHECKPOINT_INCONSISTENT',
          message: /bot_l\.2\.weight_scale is float32 \[8\], expected float32 \[16\]/,
        },
      ],
      [
        'a scale that is NaN',
        (tensors) => data(tensors, 'bot_l.2.weight_scale').fill(Number.NaN as never, 5, 6),
        { code: 'VALUE_NOT_FINITE', message: /^layer bot_l\.2: a scale of its weight is NaN/ },
      ],
      [
        'a scale of zero',
        (tensors) => data(tensors, 'bot_l.2.weight_input_scale').fill(0 as never),
        { code: 'VALUE_OUT_OF_RANGE', message: /^layer bot_l\.2: the scale of its inputs is 0/ },
      ],
      [
        'a weight that is NaN',
        (tensors) => data(tensors, 'bot_l.2.weight').fill(0xff as never, 7, 8),
        { code: 'VALUE_NOT_FINITE', message: /^layer bot_l\.2: element 7 of its weight is NaN/ },
      ],
    ] as readonly [string, (tensors: NamedTensors) => unknown, object][]) {
      test(what, async () => {
        const load = async () => (await logits((await model(scaled(change))).architecture)).values;
        await assert.rejects(load, expected);
      });
    }
  });
});
