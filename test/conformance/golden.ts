/** Outputs that PyTorch wrote. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bags, EmbeddingTable, IndexArray, PoolingMode, RowFormat } from '../../src/embedding/bag.ts';
import { type HostTensor, toFloat32 } from '../../src/tensor.ts';
import { relativeError } from '../support/compare.ts';
import { goldenPath } from '../support/golden.ts';
import { poolOn } from '../support/run-operators.ts';
import { readSafetensors } from '../support/safetensors.ts';
import type { Subject } from './subject.ts';

interface GoldenCase {
  readonly name: string;
  readonly mode: PoolingMode;
  readonly dtype: RowFormat;
  readonly padding_idx: number | null;
  readonly include_last_offset: boolean;
  readonly weighted: boolean;
}

/**
 * ‖out − ref‖ / ‖ref‖. float32: torch on a GPU adds in another order. The others: torch rounds its output to the row
 * format, at most 2^-11 and 2^-8 a value, and its per-sample products too; ours stays float32.
 */
const TOLERANCE: Record<RowFormat, number> = { float32: 1e-6, float16: 5e-3, bfloat16: 2e-2 };

export function goldenCases(subject: Subject): void {
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
      const { pooled } = await poolOn(subject.backend, [table], { batchSize, bags: [bags] });
      const error = relativeError(pooled, toFloat32(output));
      assert.ok(error <= TOLERANCE[dtype], `${JSON.stringify(golden)}: relative error ${error}`);
    }
  });
}
