/** State dicts of PyTorch 2.11 that older versions cannot write, as test/fixtures/torch211/make.py made them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FormatError } from '../../../src/errors.ts';
import { dictOf, isSavedTensor, readTorchFile } from '../../../src/formats/torch/torch-file.ts';
import { readTensor } from '../../../src/stored-tensor.ts';
import type { StoredTensors } from '../../../src/tensor.ts';

const fixture = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/torch211/${name}.pt`, import.meta.url));

const NAME = 'emb_l.0.weight';

async function numbers(tensors: StoredTensors, name: string): Promise<number[]> {
  const tensor = tensors.get(name);
  assert.ok(tensor, name);
  return Array.from((await readTensor(tensor)).data as ArrayLike<number | bigint>, Number);
}

/** The tensors of a state dict: the file's value, or what stands under `state_dict` or `model` in it. */
async function load(name: string): Promise<StoredTensors> {
  const saved = await readTorchFile(fixture(name));
  const dict = dictOf(dictOf(saved)?.get('state_dict') ?? dictOf(saved)?.get('model') ?? saved);
  const tensors = [...(dict ?? [])].flatMap(([key, value]) =>
    typeof key === 'string' && isSavedTensor(value) ? [[key, value.stored(key)] as const] : [],
  );
  return new Map(tensors);
}

const ramp = (count: number) => Array.from({ length: count }, (_, i) => i);

describe('read', () => {
  for (const name of ['parameter', 'buffer', 'subclass', 'dtensor', 'sharded_tensor'])
    test(name, async () => {
      const tensors = await load(name);
      assert.deepEqual(tensors.get(NAME)?.shape, [5, 4]);
      assert.deepEqual(await numbers(tensors, NAME), ramp(20));
    });

  test('a DTensor that is replicated, and a plain tensor beside it', async () => {
    const tensors = await load('dtensor');
    assert.deepEqual(await numbers(tensors, 'emb_l.1.weight'), ramp(12));
    assert.deepEqual(await numbers(tensors, 'plain'), ramp(8));
  });

  test('unsigned integers of every width', async () => {
    const tensors = await load('uints');
    assert.deepEqual(
      [...tensors.values()].map(({ dtype }) => dtype),
      ['uint16', 'uint32', 'uint64'],
    );
    for (const name of tensors.keys()) assert.deepEqual(await numbers(tensors, name), ramp(20));
  });

  // The bits of 0, 1, 2 and 19, rounded to nearest even.
  for (const [name, dtype, bits] of [
    ['float8_e4m3fn', 'float8_e4m3', [0, 0x38, 0x40, 0x5a]],
    ['float8_e5m2', 'float8_e5m2', [0, 0x3c, 0x40, 0x4d]],
  ] as const)
    test(name, async () => {
      const tensors = await load(name);
      assert.equal(tensors.get(NAME)?.dtype, dtype);
      const values = await numbers(tensors, NAME);
      assert.deepEqual(
        [0, 1, 2, 19].map((i) => values[i]),
        bits,
      );
    });

  for (const name of ['compiled', 'ddp', 'ddp_compiled', 'numpy_beside', 'optimizer'])
    test(`the parameters of ${name}`, async () => {
      const tensors = await load(name);
      const weight = [...tensors.keys()].find((key) => key.endsWith('bot_l.0.weight')) ?? 'none';
      assert.deepEqual(await numbers(tensors, weight), ramp(6));
    });
});

describe('refused, naming the tensor and what to save', () => {
  for (const [name, pattern] of [
    ['complex', /complex64/],
    ['conjugate', /complex64/],
    ['negative', /resolve_neg/],
    ['meta', /meta device/],
    ['quantized', /quantised.*dequantize/],
    ['quantized_per_channel', /quantised.*dequantize/],
    ['sparse_coo', /sparse.*to_dense/],
    ['sparse_csr', /sparse.*to_dense/],
    ['dtensor_part', /DTensor.*\[3,4\] of \[5,4\].*full_state_dict/],
    ['sharded_tensor_part', /ShardedTensor.*\[3,4\] of \[5,4\].*full_state_dict/],
  ] as const)
    test(name, () =>
      assert.rejects(load(name), (error: unknown) => {
        assert.ok(error instanceof FormatError, String(error));
        assert.equal(error.code, 'TORCH_FORMAT_UNSUPPORTED');
        assert.equal(error.details.tensor, NAME);
        assert.match(`${error.message}; ${error.hint}`, pattern);
        return true;
      }),
    );
});
