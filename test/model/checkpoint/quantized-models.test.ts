/** Models of tables that other programs quantised: they predict what their dequantised twins predict. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import { loadCheckpoint } from '../../../src/model/checkpoint/checkpoint.ts';
import { type PackedFormat, ROW_HEADERS, type RowHeader } from '../../../src/model/checkpoint/packed-rows.ts';
import { DlrmModel } from '../../../src/model/dlrm.ts';
import { inferArchitecture } from '../../../src/model/infer-architecture.ts';
import { readRequest } from '../../../src/model/request/safetensors-request.ts';
import type { StoredTensor, StoredTensors } from '../../../src/tensor.ts';
import { goldenPath } from '../../support/golden.ts';
import { packed, quantised, split, valuesOf } from '../../support/quantised-parts.ts';
import { bytesOf, storedBytes } from '../../support/stored.ts';

const original = goldenPath('dlrm_dcnv2.model.safetensors');
const request = goldenPath('dlrm_dcnv2.request.safetensors');
const skip = (original === undefined || request === undefined) && 'no golden files dlrm_dcnv2.*';

describe('models of quantised tables', { skip }, () => {
  let backend: CpuBackend;
  before(() => {
    backend = new CpuBackend({ threads: 1 });
  });
  after(() => backend[Symbol.dispose]());

  /** The golden model with other tables: as `save` makes them, and as their values. */
  async function twins(
    format: PackedFormat,
    half: boolean,
    save: (table: ReturnType<typeof quantised>, name: string) => readonly (readonly [string, StoredTensor])[],
  ): Promise<{ quantised: StoredTensors; floats: StoredTensors }> {
    const { tensors } = await loadCheckpoint(original as string);
    const [stored, floats] = [new Map<string, StoredTensor>(), new Map<string, StoredTensor>()];
    for (const [name, tensor] of tensors) {
      if (!name.includes('.embedding_bags.')) {
        stored.set(name, tensor);
        floats.set(name, tensor);
        continue;
      }
      const [rows, dim] = tensor.shape as [number, number];
      const table = quantised({ rows, dim, format, half });
      for (const [key, value] of save(table, name)) stored.set(key, value);
      floats.set(name, storedBytes('float32', [rows, dim], bytesOf(Float32Array.from(valuesOf(table)))));
    }
    return { quantised: stored, floats };
  }

  async function score(tensors: StoredTensors): Promise<Float32Array> {
    await using model = await DlrmModel.create(backend, await inferArchitecture(tensors));
    return (await model.predict(await readRequest(request as string))).probabilities;
  }

  async function compare(tensors: { quantised: StoredTensors; floats: StoredTensors }, tolerance: number) {
    const [expected, found] = [await score(tensors.floats), await score(tensors.quantised)];
    expected.forEach((p, i) => {
      const off = Math.abs(p - (found[i] as number));
      assert.ok(off <= tolerance, `sample ${i}: ${p} became ${found[i]}`);
    });
    const { notes } = await inferArchitecture(tensors.quantised);
    assert.ok(
      notes?.some((note) => note.startsWith('quantised tables ')),
      String(notes),
    );
  }

  // Sums of a few hundred products, whose order differs; float32 scales: half a level of 255.
  const [ROUNDING, HALF_LEVEL] = [1e-5, 2e-3];

  for (const format of ['int8', 'int4'] as const) {
    test(`${format}, scales and biases apart`, async () => {
      const save = (table: ReturnType<typeof quantised>, name: string) => {
        const { weight, scale, bias } = split(table) as Record<'weight' | 'scale' | 'bias', StoredTensor>;
        return [
          [name, weight],
          [`${name}_qscale`, scale],
          [`${name}_qbias`, bias],
        ] as const;
      };
      await compare(await twins(format, true, save), ROUNDING);
    });
  }

  for (const header of ROW_HEADERS) {
    test(header.title, async () => {
      const half = header.dtype === 'float16';
      const save = (table: ReturnType<typeof quantised>, name: string) =>
        [[name, packed(table, header as RowHeader)]] as const;
      await compare(await twins('int8', half, save), half ? ROUNDING : HALF_LEVEL);
    });
  }
});
