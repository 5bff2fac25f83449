import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { HotrowError } from '../../../src/errors.ts';
import { readSafetensors } from '../../../src/formats/safetensors.ts';
import type { PickledValue } from '../../../src/formats/torch/pickled-value.ts';
import { isSavedTensor, readTorchFile } from '../../../src/formats/torch/torch-file.ts';
import { readTorchZip } from '../../../src/formats/torch/torch-zip.ts';
import { readTensor } from '../../../src/stored-tensor.ts';
import { type FileTensor, type HostTensor, isInFile } from '../../../src/tensor.ts';
import { goldenPath } from '../../support/golden.ts';
import fc from '../../support/properties.ts';
import {
  latin1,
  readStored,
  refusalsOf,
  tensorPickle,
  torchFixture,
  torchZip,
  zip,
} from '../../support/torch-files.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-torch-'));
});
after(() => rm(folder, { recursive: true }));

async function put(bytes: Uint8Array | string, name = 'x.pt'): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

const refuses = refusalsOf(readTorchFile);

const asMap = (value: PickledValue | undefined): Map<string, PickledValue> => {
  assert.ok(value instanceof Map);
  return value as Map<string, PickledValue>;
};
const stored = (value: PickledValue | undefined): FileTensor => {
  assert.ok(isSavedTensor(value));
  return value.stored('t') as FileTensor;
};
const load = (value: PickledValue | undefined): Promise<HostTensor> => readTensor(stored(value));
const numbers = async (value: PickledValue | undefined): Promise<number[]> =>
  Array.from((await load(value)).data as Iterable<number | bigint>, Number);
const ramp = (count: number, from = 0): number[] => Array.from({ length: count }, (_, i) => from + i);

describe('golden', () => {
  const torch = goldenPath('criteo_dlrm.pt');
  const safetensors = goldenPath('criteo_dlrm.safetensors');
  const skip = torch === undefined || safetensors === undefined ? 'the golden files are not here' : false;
  test('criteo_dlrm.pt holds the bytes of criteo_dlrm.safetensors', { skip }, async () => {
    const expected = (await readSafetensors(safetensors as string)).tensors;
    const root = asMap(await readTorchFile(torch as string));
    const actual = root.has('state_dict') ? asMap(root.get('state_dict')) : root;
    let compared = 0;
    for (const [name, tensor] of expected) {
      const [a, b] = [await load(actual.get(name)), await readTensor(tensor)];
      assert.deepEqual([a.dtype, a.shape], [b.dtype, b.shape], name);
      assert.deepEqual(a.data, b.data, name);
      compared++;
    }
    assert.ok(compared > 30, `${compared} tensors`);
  });
});

for (const kind of ['zip', 'legacy']) {
  describe(`fixtures of PyTorch 1.13, ${kind}`, () => {
    test('every dtype', async () => {
      const file = torchFixture(`dtypes.${kind}`);
      const value = asMap(await readTorchFile(file));
      assert.equal(value.size, 10);
      for (const [name, leaf] of value) {
        const tensor = stored(leaf);
        assert.deepEqual([tensor.dtype, tensor.shape, tensor.file], [name, [3, 4], file]);
        if (name === 'bool')
          assert.deepEqual(
            await numbers(leaf),
            ramp(12).map((i) => i % 2),
          );
        // The exact halves of 0, 1, 2 and 3.
        else if (name === 'float16')
          assert.deepEqual((await numbers(leaf)).slice(0, 4), [0, 0x3c00, 0x4000, 0x4200]);
        else if (name === 'bfloat16')
          assert.deepEqual((await numbers(leaf)).slice(0, 4), [0, 0x3f80, 0x4000, 0x4040]);
        else assert.deepEqual(await numbers(leaf), ramp(12), name);
      }
    });

    test('views share their storage', async () => {
      const value = asMap(await readTorchFile(torchFixture(`views.${kind}`)));
      assert.deepEqual(await numbers(value.get('whole')), ramp(24));
      assert.deepEqual(await numbers(value.get('rows')), ramp(8, 8));
      assert.deepEqual(await numbers(value.get('scalar')), [5]);
      assert.deepEqual(stored(value.get('scalar')).shape, []);
      assert.deepEqual(await numbers(value.get('empty')), []);
      assert.deepEqual(stored(value.get('column')).shape, [1, 1]);
      const [whole, rows] = [stored(value.get('whole')), stored(value.get('rows'))];
      assert.equal(rows.byteOffset - whole.byteOffset, 32);
    });

    test('a transposed tensor', async () => {
      const value = asMap(await readTorchFile(torchFixture(`strided.${kind}`)));
      const expected = ramp(4).flatMap((column) => ramp(6).map((row) => row * 4 + column));
      assert.deepEqual(await numbers(value.get('transposed')), expected);
    });

    test('(indices, offsets, lengths)', async () => {
      const value = (await readTorchFile(torchFixture(`bags.${kind}`))) as PickledValue[];
      assert.deepEqual(await numbers(value[0]), [7, 1, 4, 1, 9, 2]);
      assert.deepEqual(await numbers(value[1]), [0, 2, 3, 6]);
      assert.deepEqual(await numbers(value[2]), [2, 1, 3]);
      assert.deepEqual(stored(value[2]).shape, [1, 3]);
    });

    test('a state dict', async () => {
      const value = asMap(await readTorchFile(torchFixture(`module.${kind}`)));
      assert.deepEqual([...value.keys()], ['first.weight', 'first.bias', 'second.weight', 'second.bias']);
      assert.deepEqual(await numbers(value.get('first.weight')), ramp(6));
    });

    test('a checkpoint with numbers, numpy scalars and a Parameter', async () => {
      const value = asMap(await readTorchFile(torchFixture(`checkpoint.${kind}`)));
      assert.equal(asMap(value.get('state_dict')).size, 4);
      assert.deepEqual(await numbers(value.get('parameter')), ramp(24));
      assert.deepEqual(value.get('size'), [2, 3]);
      assert.equal(value.get('device'), 'cpu');
      assert.equal(value.get('train_acc'), 0.5);
      assert.equal(Number(value.get('test_count')), -3);
      assert.equal(value.get('iter'), 2 ** 40);
      assert.equal(value.get('big'), 2n ** 80n);
      assert.equal(value.get('negative'), -129);
      assert.equal(value.get('name'), 'Käse');
      assert.deepEqual(value.get('flags'), [true, false, null, 1.25]);
      assert.deepEqual(value.get('__proto__'), new Map([['polluted', true]]));
      assert.equal(({} as Record<string, unknown>).polluted, undefined);
    });

    test('a dtype', async () => {
      asMap(await readTorchFile(torchFixture(`dtype_value.${kind}`)));
    });

    test('truncated anywhere: a HotrowError', async () => {
      const bytes = await readFile(torchFixture(`module.${kind}`));
      for (let length = 0; length < bytes.length; length += 7) {
        const path = await put(bytes.subarray(0, length), 'truncated.pt');
        await assert.rejects(readStored(path), HotrowError, `at ${length}`);
      }
    });

    test('any byte changed: a value or a HotrowError, and tensors inside the file', async () => {
      const bytes = await readFile(torchFixture(`bags.${kind}`));
      // The zip64 records at the end have a test of their own.
      const zip64 = bytes.indexOf('PK\x06\x06', 0, 'latin1');
      const last = (zip64 < 0 ? bytes.length : zip64) - 1;
      await fc.assert(
        fc.asyncProperty(fc.nat(last), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
          const changed = Buffer.from(bytes);
          changed[at] = (changed[at] as number) ^ flip;
          const path = await put(changed, 'changed.pt');
          const tensors = await readStored(path).catch((error: unknown) => {
            assert.ok(error instanceof HotrowError, `${(error as Error).stack}`);
            return [];
          });
          // Those in one piece lie within the file; those with strides can be read.
          for (const tensor of tensors) {
            if (isInFile(tensor))
              assert.ok(tensor.byteOffset + tensor.byteLength <= bytes.length, `byte ${at}`);
            else if (tensor.byteLength < 1 << 20) await readTensor(tensor);
          }
        }),
        { numRuns: 400 },
      );
    });
  });
}

describe('an archive inside a larger file', () => {
  const archive = torchZip(tensorPickle(6, 1, [2], [1]));
  test('its tensors lie where they lie in the larger file', async () => {
    const path = await put(Buffer.concat([archive, latin1('between'), archive, latin1('after')]));
    for (const offset of [0, archive.length + 'between'.length])
      assert.deepEqual(await numbers(await readTorchZip(path, { offset, length: archive.length })), [1, 2]);
  });
  test('nothing is read outside of it', async () => {
    const path = await put(Buffer.concat([archive, archive]));
    for (const [offset, length] of [
      [0, archive.length - 1],
      [1, archive.length],
      [0, 0],
      [archive.length, archive.length + 1],
    ] as const)
      await assert.rejects(readTorchZip(path, { offset, length }), { code: 'TORCH_FILE_INVALID' });
  });
});

describe('files that are no checkpoint', () => {
  const tar = Buffer.alloc(1024);
  tar.write('ustar', 257);
  const rows: readonly (readonly [name: string, bytes: Uint8Array | string, pattern: RegExp])[] = [
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', /git lfs pull/],
    ['a web page', '<!DOCTYPE html><html></html>', /web page/],
    ['a tar', tar, /tar archive.*before 0\.1\.10/],
    ['some text', 'hello', /torch\.save/],
    ['another pickle', latin1('\x80\x02K\x01.'), /torch\.save/],
    ["numpy's .npz", zip([{ name: 'a.npy', data: new Uint8Array(4) }]), /NumPy archive.*save_file/],
    ['another zip', zip([{ name: 'x.txt', data: new Uint8Array(4) }]), /zip archive/],
    ['a gzipped file', gzipSync('abc'), /torch\.save/],
  ];
  for (const [name, bytes, pattern] of rows)
    test(name, async () => refuses(await put(bytes), 'TORCH_FORMAT_UNSUPPORTED', pattern));
  for (const protocol of [2, 3, 4, 5]) {
    test(`a dict of numpy arrays by pickle.dump, protocol ${protocol}`, () =>
      refuses(
        fileURLToPath(new URL(`../../fixtures/torch/arrays.${protocol}.pkl`, import.meta.url)),
        'TORCH_FORMAT_UNSUPPORTED',
        /torch\.save did not write.*torch\.from_numpy/,
      ));
  }
  test('numpy arrays larger than what is read of a pickle', async () => {
    const bytes = await readFile(
      fileURLToPath(new URL('../../fixtures/torch/arrays.4.pkl', import.meta.url)),
    );
    // The array's bytes, as BINBYTES of 65 MiB.
    const length = Buffer.alloc(4);
    length.writeUInt32LE(65 << 20);
    const at = bytes.indexOf('C\x18', 0, 'latin1');
    const path = await put(
      Buffer.concat([bytes.subarray(0, at), latin1('B'), length, Buffer.alloc(65 << 20)]),
    );
    await refuses(path, 'TORCH_FORMAT_UNSUPPORTED', /torch\.save did not write.*torch\.from_numpy/);
  });
  test('TorchScript', () =>
    refuses(torchFixture('script'), 'TORCH_FORMAT_UNSUPPORTED', /TorchScript.*model\.state_dict/));
  test('an empty file', async () => refuses(await put(''), 'FILE_TRUNCATED', /empty/));
  test('a missing file', () =>
    assert.rejects(readTorchFile(join(folder, 'none.pt')), { code: 'FILE_NOT_FOUND' }));
  test('a folder', () => assert.rejects(readTorchFile(folder), { code: 'FILE_UNREADABLE' }));
});
