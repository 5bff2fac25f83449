import assert from 'node:assert/strict';
import { link, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import { dequantizeRows } from '../../../src/embedding/quantize.ts';
import { type QuantizedRowFormat, ROW_FORMATS, type RowFormat } from '../../../src/embedding/row-format.ts';
import { writeSafetensors } from '../../../src/formats/safetensors.ts';
import { loadCheckpoint } from '../../../src/model/checkpoint/checkpoint.ts';
import { quantizeCheckpoint } from '../../../src/model/checkpoint/quantize-checkpoint.ts';
import { DlrmModel } from '../../../src/model/dlrm.ts';
import { inferArchitecture } from '../../../src/model/infer-architecture.ts';
import { readRequest } from '../../../src/model/request/safetensors-request.ts';
import { readTensor } from '../../../src/stored-tensor.ts';
import { type HostTensor, type StoredTensor, toFloat32 } from '../../../src/tensor.ts';
import { hostWeight, randomTable } from '../../support/cases.ts';
import { goldenPath } from '../../support/golden.ts';
import { Random } from '../../support/random.ts';

const original = goldenPath('dlrm_multihot.model.safetensors');
const request = goldenPath('dlrm_multihot.request.safetensors');
const skip = (original === undefined || request === undefined) && 'no golden files dlrm_multihot.*';

describe('quantizeCheckpoint', { skip }, () => {
  let folder: string;
  let backend: CpuBackend;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hotrow-quantize-'));
    backend = new CpuBackend({ threads: 1 });
  });
  after(async () => {
    backend[Symbol.dispose]();
    await rm(folder, { recursive: true });
  });

  async function convert(rows: RowFormat, name: string, tables?: readonly number[]) {
    const { tensors } = await loadCheckpoint(original as string);
    const architecture = await inferArchitecture(tensors);
    const chosen = architecture.tables.filter((_, t) => tables === undefined || tables.includes(t));
    const out = join(folder, name);
    return { out, converted: await quantizeCheckpoint({ tensors, tables: chosen, rows, out }) };
  }

  async function score(file: string): Promise<Float32Array> {
    const { tensors } = await loadCheckpoint(file);
    await using model = await DlrmModel.create(backend, await inferArchitecture(tensors));
    return (await model.predict(await readRequest(request as string))).probabilities;
  }

  /** The largest difference of probabilities of golden models in these formats, with room for a factor of three. */
  const TOLERANCE: Readonly<Record<RowFormat, number>> = {
    float32: 0,
    float16: 1e-4,
    bfloat16: 1e-3,
    int8: 2e-3,
    int4: 3e-2,
    float8_e4m3: 1e-2,
  };

  for (const rows of ROW_FORMATS) {
    test(`${rows}: predicts about what the original predicts, and says what it lost`, async () => {
      const { out, converted } = await convert(rows, `${rows}.safetensors`);
      const [before_, after_] = [await score(original as string), await score(out)];
      before_.forEach((p, i) => {
        const difference = Math.abs(p - (after_[i] as number));
        assert.ok(difference <= TOLERANCE[rows], `sample ${i}: ${p} became ${after_[i]}`);
      });
      const { tensors } = await loadCheckpoint(out);
      const { tables } = await inferArchitecture(tensors);
      assert.ok(tables.every(({ rowFormat }) => rowFormat === rows));
      for (const { name, error, bytesAfter } of converted) {
        const index = tables.findIndex((table) => table.name === name);
        const weight = tables[index]?.weight as StoredTensor;
        assert.equal(weight.byteLength, bytesAfter);
        assert.equal(error.maxAbsolute === 0, rows === 'float32');
      }
    });
  }

  test('what is not converted stays byte for byte; tables keep formats of their own', async () => {
    const { out } = await convert('int8', 'some.safetensors', [1]);
    const { tensors: before_ } = await loadCheckpoint(original as string);
    const { tensors: after_ } = await loadCheckpoint(out);
    const { tables } = await inferArchitecture(after_);
    assert.deepEqual(
      tables.slice(0, 3).map(({ rowFormat }) => rowFormat),
      ['float32', 'int8', 'float32'],
    );
    assert.deepEqual([...after_.keys()].sort(), [...before_.keys()].sort());
    for (const [name, tensor] of before_) {
      const other = after_.get(name) as StoredTensor;
      if (other.dtype === 'uint8') {
        const values = toFloat32(await readTensor(tensor));
        const dim = tensor.shape[1] as number;
        const back = dequantizeRows((await readTensor(other)).data as Uint8Array, dim, 'int8');
        assert.ok(values.every((x, i) => Math.abs(x - (back[i] as number)) < 0.05));
        continue;
      }
      assert.deepEqual((await readTensor(other)).data, (await readTensor(tensor)).data, name);
    }
    await score(out);
  });

  test('rows that are quantised already are refused by name', async () => {
    const { out } = await convert('int8', 'twice.safetensors');
    const { tensors } = await loadCheckpoint(out);
    const { tables } = await inferArchitecture(tensors);
    const again = join(folder, 'again.safetensors');
    await assert.rejects(quantizeCheckpoint({ tensors, tables, rows: 'int4', out: again }), {
      code: 'CHECKPOINT_UNSUPPORTED',
      message: /has int8 rows already/,
    });
  });

  test('the checkpoint that it is made of is not replaced, by whatever path', async () => {
    const { out } = await convert('float16', 'made-of.safetensors');
    const { tensors } = await loadCheckpoint(out);
    const { tables } = await inferArchitecture(tensors);
    const before = await readFile(out);
    const twin = join(folder, 'twin.safetensors');
    await link(out, twin);
    const alias = join(folder, 'alias.safetensors');
    await symlink(out, alias);
    for (const place of [out, twin, alias]) {
      await assert.rejects(quantizeCheckpoint({ tensors, tables, rows: 'int8', out: place }), {
        code: 'FILE_UNWRITABLE',
        message: /it would replace .*made-of\.safetensors, which it is made of/,
      });
    }
    assert.deepEqual(await readFile(out), before);
  });

  test('a row that cannot be quantised leaves no file', async () => {
    const bad = join(folder, 'bad.safetensors');
    const { tensors } = await loadCheckpoint(original as string);
    const copies = new Map<string, HostTensor>();
    for (const [name, tensor] of tensors) copies.set(name, await readTensor(tensor));
    const { tables } = await inferArchitecture(tensors);
    const victim = [...tensors].find(([, tensor]) => tensor === tables[1]?.weight)?.[0] as string;
    ((copies.get(victim) as HostTensor).data as Float32Array)[7] = Number.NaN;
    await writeSafetensors(bad, copies);
    const loaded = await loadCheckpoint(bad);
    const out = join(folder, 'never.safetensors');
    await assert.rejects(
      quantizeCheckpoint({
        tensors: loaded.tensors,
        tables: (await inferArchitecture(loaded.tensors)).tables,
        rows: 'int8',
        out,
      }),
      { code: 'VALUE_NOT_FINITE', message: /row 0 has NaN at 7/ },
    );
    assert.ok((await readdir(folder)).every((name) => !name.startsWith('never')));
  });

  test('uint8 rows without a word on them are known by their bytes; with the wrong word they are refused', async () => {
    const { out } = await convert('int8', 'annotated.safetensors', [0]);
    const { tensors } = await loadCheckpoint(out);
    const [name, quantized] = [...tensors].find(([, { dtype }]) => dtype === 'uint8') as [
      string,
      StoredTensor,
    ];
    const { annotation, ...bare } = quantized;
    const { format, dim } = JSON.parse(annotation as string) as { format: QuantizedRowFormat; dim: number };
    const infer = (tensor: StoredTensor) => inferArchitecture(new Map([...tensors, [name, tensor]]));
    const [table] = (await infer(bare)).tables;
    assert.deepEqual(table?.weight, { ...bare, annotation: JSON.stringify({ format, dim }) });
    for (const [text, message] of [
      ['{', /says no row format/],
      ['{"format":"int9","dim":4}', /says no row format/],
      ['{"format":"float32","dim":4}', /says no row format/],
      ['{"format":"int8","dim":0}', /says no row format/],
      [JSON.stringify({ format, dim: dim + 16 }), /rows of \d+ bytes/],
    ] as const) {
      await assert.rejects(infer({ ...bare, annotation: text }), {
        code: 'CHECKPOINT_INCONSISTENT',
        message,
      });
    }
  });
});

test('a table of several features, under two names, is converted alike and told of once', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'hotrow-quantize-shared-'));
  try {
    const table = randomTable(new Random(1), { name: 'first', rows: 30, dim: 8 });
    const file = join(folder, 'tables.safetensors');
    await writeSafetensors(file, new Map([['t', hostWeight(table)]]));
    const weight = (await loadCheckpoint(file)).tensors.get('t') as StoredTensor;
    const out = join(folder, 'out.safetensors');
    const converted = await quantizeCheckpoint({
      tensors: new Map([
        ['first.weight', weight],
        ['tied.weight', weight],
      ]),
      tables: [
        { ...table, weight },
        { ...table, name: 'second', weight, mode: 'mean' },
      ],
      rows: 'int8',
      out,
    });
    assert.deepEqual(
      converted.map(({ name, bytesBefore }) => [name, bytesBefore]),
      [['first', 30 * 8 * 4]],
    );
    const { tensors } = await loadCheckpoint(out);
    const [first, tied] = [...tensors.values()] as [StoredTensor, StoredTensor];
    assert.deepEqual([...tensors.keys()], ['first.weight', 'tied.weight']);
    assert.equal(first.dtype, 'uint8');
    assert.equal(first.annotation, tied.annotation);
    assert.deepEqual((await readTensor(tied)).data, (await readTensor(first)).data);
  } finally {
    await rm(folder, { recursive: true });
  }
});
