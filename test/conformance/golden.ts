/** Outputs that PyTorch wrote. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bags, EmbeddingTable, IndexArray, PoolingMode } from '../../src/embedding/bag.ts';
import type { FloatRowFormat } from '../../src/embedding/row-format.ts';
import { loadCheckpoint } from '../../src/model/checkpoint/checkpoint.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { inferArchitecture } from '../../src/model/infer-architecture.ts';
import { plainPlan, planLabel } from '../../src/plan/plan.ts';
import { type HostTensor, toFloat32 } from '../../src/tensor.ts';
import { shared } from '../support/cases.ts';
import { assertSameBits, assertWithin, relativeError } from '../support/compare.ts';
import { goldenPath } from '../support/golden.ts';
import { GOLDEN_MODELS, readGoldenModel } from '../support/golden-models.ts';
import { poolOn } from '../support/run-operators.ts';
import { readSafetensors } from '../support/safetensors.ts';
import type { Subject } from './subject.ts';

interface GoldenCase {
  readonly name: string;
  readonly mode: PoolingMode;
  readonly dtype: FloatRowFormat;
  readonly padding_idx: number | null;
  readonly include_last_offset: boolean;
  readonly weighted: boolean;
}

/**
 * ‖out − ref‖ / ‖ref‖. float32: torch on a GPU adds in another order. The others: torch rounds its output to the row
 * format, at most 2^-11 and 2^-8 a value, and its per-sample products too; ours stays float32.
 */
const TOLERANCE: Record<FloatRowFormat, number> = { float32: 1e-6, float16: 5e-3, bfloat16: 2e-2 };

export function goldenBagCases(subject: Subject): void {
  test('embedding_bag.safetensors: torch.nn.EmbeddingBag', async (t) => {
    const file = goldenPath('embedding_bag.safetensors');
    if (file === undefined) return t.skip('no golden file embedding_bag.safetensors');
    const { metadata, tensors } = readSafetensors(file);
    const cases: GoldenCase[] = JSON.parse(metadata.cases ?? '[]');
    assert.ok(cases.length >= 30, `${file} has ${cases.length} cases`);
    for (const golden of cases) {
      const { name, mode, dtype, padding_idx, weighted } = golden;
      const read = (part: string): HostTensor => {
        const tensor = tensors.get(`${name}.${part}`);
        if (tensor === undefined) throw new Error(`${file}: no ${name}.${part}`);
        return tensor;
      };
      const weight = read('weight');
      const [rows, dim] = weight.shape as [number, number];
      const table: EmbeddingTable = {
        name,
        weight,
        rows,
        dim,
        rowFormat: dtype,
        mode,
        ...(padding_idx === null ? {} : { paddingIdx: padding_idx }),
      };
      const bags: Bags = {
        indices: read('indices').data as IndexArray,
        offsets: read('offsets').data as IndexArray,
        ...(weighted ? { weights: toFloat32(read('per_sample_weights')) } : {}),
      };
      const output = read('output');
      const [batchSize] = output.shape as [number];
      const right = toFloat32(output);
      const { backend } = subject;
      const tables = [table];
      const others = subject.goldenPlansOf({ device: backend.device, tables });
      await Promise.all(
        [plainPlan(backend.device.kind), ...others].map(async (plan) => {
          const { pooled } = await poolOn(backend, tables, { batchSize, bags: [bags] }, { plan });
          const error = relativeError(pooled, right);
          const what = `${JSON.stringify(golden)}, ${planLabel(plan)}`;
          assert.ok(error <= TOLERANCE[dtype], `${what}: relative error ${error}`);
        }),
      );
    }
  });

  test('dlrm_multihot: PyTorch’s pooled rows', async (t) => {
    const golden = shared('dlrm_multihot', () => readGoldenModel('dlrm_multihot'));
    if (golden === undefined) return t.skip('no golden files dlrm_multihot.*');
    const { architecture, request, expected } = golden;
    const { pooled } = await poolOn(subject.backend, architecture.tables, request);
    const right = toFloat32(expected.get('pooled') as HostTensor);
    const error = relativeError(pooled, right);
    assert.ok(error <= TOLERANCE.float32, `relative error ${error}`);
  });
}

export function goldenModelCases(subject: Subject): void {
  for (const name of GOLDEN_MODELS) {
    test(`${name}: PyTorch’s probabilities`, async (t) => {
      const golden = shared(name, () => readGoldenModel(name));
      if (golden === undefined) return t.skip(`no golden files ${name}.*`);
      const { architecture, request, expected, file } = golden;
      await using model = await DlrmModel.create(subject.backend, architecture, {
        precision: subject.precision,
      });
      const { probabilities } = await model.predict(request);
      const inferred = await inferArchitecture((await loadCheckpoint(file)).tensors);
      await using fromFile = await DlrmModel.create(subject.backend, inferred, {
        precision: subject.precision,
      });
      const loaded = await fromFile.predict(request);
      assertSameBits(loaded.probabilities, probabilities, 'the architecture inferred from the file');
      const right = toFloat32(expected.get('probability') as HostTensor);
      // Each layer's sums have an order of their own, and roundings that mostly cancel; the sigmoid's slope is at most 1/4.
      const tolerance = Math.max(1e-6, 2 * subject.denseRounding);
      assertWithin(probabilities, right, () => tolerance, name);
    });
  }
}
