import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { deflateRawSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { FormatError, HotrowError } from '../../src/errors.ts';
import type { PickledValue } from '../../src/formats/pickled-value.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import { readTorchFile } from '../../src/formats/torch-file.ts';
import { readTorchZip } from '../../src/formats/torch-zip.ts';
import { readTensor } from '../../src/stored-tensor.ts';
import type { FileTensor, HostTensor } from '../../src/tensor.ts';
import { goldenPath } from '../support/golden.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-torch-'));
});
after(() => rm(folder, { recursive: true }));

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/torch/${name}.pt`, import.meta.url));
const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

async function put(bytes: Uint8Array | string, name = 'x.pt'): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

interface ZipEntry {
  readonly name: string;
  readonly data: Uint8Array;
  readonly deflate?: boolean;
  /** What the directory says instead of the truth. */
  readonly claims?: { readonly size?: number; readonly compressedSize?: number; readonly at?: number };
}

/** A zip, with the directory's lies if any. Checksums are left 0. */
function zip(entries: readonly ZipEntry[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { name, data, deflate = false, claims = {} } of entries) {
    const body = deflate ? deflateRawSync(data, { level: 9 }) : Buffer.from(data);
    const header = Buffer.alloc(30);
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt16LE(deflate ? 8 : 0, 8);
    header.writeUInt32LE(body.length, 18);
    header.writeUInt32LE(data.length, 22);
    header.writeUInt16LE(name.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(deflate ? 8 : 0, 10);
    central.writeUInt32LE(claims.compressedSize ?? body.length, 20);
    central.writeUInt32LE(claims.size ?? data.length, 24);
    central.writeUInt16LE(name.length, 28);
    central.writeUInt32LE(claims.at ?? at, 42);
    directory.push(central, latin1(name));
    parts.push(header, latin1(name), body);
    at += 30 + name.length + body.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, central, end]);
}

const integer = (value: number): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return `J${bytes.toString('latin1')}`;
};
const tuple = (values: readonly number[]): string => `(${values.map(integer).join('')}t`;

/** The pickle of one float32 tensor over storage '0' of `elements`. */
const tensorPickle = (elements: number, offset: number, shape: number[], stride: number[]): Buffer =>
  latin1(
    '\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu' +
      `${integer(elements)}tQ${integer(offset)}${tuple(shape)}${tuple(stride)}\x89)tR.`,
  );

/** A torch zip of one tensor. */
const torchZip = (
  pickle: Uint8Array,
  storage: Partial<ZipEntry> = {},
  more: readonly ZipEntry[] = [],
): Buffer =>
  zip([
    { name: 'a/data.pkl', data: pickle },
    ...more,
    { name: 'a/data/0', data: new Uint8Array(new Float32Array([0, 1, 2, 3, 4, 5]).buffer), ...storage },
  ]);

/** Magic, protocol and system information of the format before 1.6. */
const LEGACY_HEAD = '\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.';

async function refuses(path: string, code: HotrowError['code'], pattern = /./): Promise<void> {
  await assert.rejects(readTorchFile(path), (error: unknown) => {
    assert.ok(error instanceof FormatError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(`${error.message} ${error.hint ?? ''}`, pattern);
    assert.ok(error.message.includes(path), error.message);
    return true;
  });
}

const asMap = (value: PickledValue | undefined): Map<string, PickledValue> => {
  assert.ok(value instanceof Map);
  return value as Map<string, PickledValue>;
};
const load = (value: PickledValue | undefined): Promise<HostTensor> => readTensor(value as FileTensor);
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
      const file = fixture(`dtypes.${kind}`);
      const value = asMap(await readTorchFile(file));
      assert.equal(value.size, 10);
      for (const [name, leaf] of value) {
        const tensor = leaf as FileTensor;
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
      const value = asMap(await readTorchFile(fixture(`views.${kind}`)));
      assert.deepEqual(await numbers(value.get('whole')), ramp(24));
      assert.deepEqual(await numbers(value.get('rows')), ramp(8, 8));
      assert.deepEqual(await numbers(value.get('scalar')), [5]);
      assert.deepEqual((value.get('scalar') as FileTensor).shape, []);
      assert.deepEqual(await numbers(value.get('empty')), []);
      assert.deepEqual((value.get('column') as FileTensor).shape, [1, 1]);
      const [whole, rows] = [value.get('whole'), value.get('rows')] as [FileTensor, FileTensor];
      assert.equal(rows.byteOffset - whole.byteOffset, 32);
    });

    test('a transposed tensor is refused by its shape and strides', () =>
      refuses(fixture(`strided.${kind}`), 'TORCH_FORMAT_UNSUPPORTED', /\[4,6\].*\[1,4\].*contiguous/));

    test('(indices, offsets, lengths)', async () => {
      const value = (await readTorchFile(fixture(`bags.${kind}`))) as PickledValue[];
      assert.deepEqual(await numbers(value[0]), [7, 1, 4, 1, 9, 2]);
      assert.deepEqual(await numbers(value[1]), [0, 2, 3, 6]);
      assert.deepEqual(await numbers(value[2]), [2, 1, 3]);
      assert.deepEqual((value[2] as FileTensor).shape, [1, 3]);
    });

    test('a state dict', async () => {
      const value = asMap(await readTorchFile(fixture(`module.${kind}`)));
      assert.deepEqual([...value.keys()], ['first.weight', 'first.bias', 'second.weight', 'second.bias']);
      assert.deepEqual(await numbers(value.get('first.weight')), ramp(6));
    });

    test('a checkpoint with numbers, numpy scalars and a Parameter', async () => {
      const value = asMap(await readTorchFile(fixture(`checkpoint.${kind}`)));
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
      asMap(await readTorchFile(fixture(`dtype_value.${kind}`)));
    });

    test('truncated anywhere: a HotrowError', async () => {
      const bytes = await readFile(fixture(`module.${kind}`));
      for (let length = 0; length < bytes.length; length += 7) {
        const path = await put(bytes.subarray(0, length), 'truncated.pt');
        await assert.rejects(readTorchFile(path), HotrowError, `at ${length}`);
      }
    });

    test('any byte changed: a value or a HotrowError, and tensors inside the file', async () => {
      const bytes = await readFile(fixture(`bags.${kind}`));
      // The zip64 records at the end have a test of their own.
      const zip64 = bytes.indexOf('PK\x06\x06', 0, 'latin1');
      const last = (zip64 < 0 ? bytes.length : zip64) - 1;
      await fc.assert(
        fc.asyncProperty(fc.nat(last), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
          const changed = Buffer.from(bytes);
          changed[at] = (changed[at] as number) ^ flip;
          const path = await put(changed, 'changed.pt');
          const began = performance.now();
          const value = await readTorchFile(path).catch((error: unknown) => {
            assert.ok(error instanceof HotrowError, `${(error as Error).stack}`);
            return [];
          });
          assert.ok(performance.now() - began < 2000);
          for (const leaf of Array.isArray(value) ? value : []) {
            const { byteOffset, byteLength } = (leaf ?? {}) as Partial<FileTensor>;
            if (byteOffset !== undefined && byteLength !== undefined)
              assert.ok(byteOffset >= 0 && byteOffset + byteLength <= bytes.length, `byte ${at}`);
          }
        }),
        { numRuns: 400 },
      );
    });
  });
}

describe('hostile files', () => {
  const system = '\x80\x02cos\nsystem\nU\x02id\x85R.';
  const forbidden = /os\.system.*nothing in the file was executed/;
  test('os.system in a zip', async () =>
    refuses(await put(torchZip(latin1(system))), 'PICKLE_FORBIDDEN', forbidden));
  test('os.system in the old format', async () =>
    refuses(await put(latin1(LEGACY_HEAD + system)), 'PICKLE_FORBIDDEN', forbidden));
  test('os.system where the magic should be', async () =>
    refuses(
      await put(latin1(system)),
      'TORCH_FORMAT_UNSUPPORTED',
      /a pickle that torch\.save did not write/,
    ));

  const good = tensorPickle(6, 0, [2, 3], [3, 1]);
  test('the zip of these tests is good', async () => {
    const value = await readTorchFile(await put(torchZip(good)));
    assert.deepEqual(await numbers(value), ramp(6));
  });
  test('a deflated pickle is good too', async () => {
    const path = await put(
      zip([
        { name: 'a/data.pkl', data: good, deflate: true },
        { name: 'a/data/0', data: new Uint8Array(24) },
      ]),
    );
    assert.deepEqual(((await readTorchFile(path)) as FileTensor).shape, [2, 3]);
  });

  const bomb = new Uint8Array(80 << 20);
  test('a pickle of 80 MiB', async () =>
    refuses(
      await put(zip([{ name: 'a/data.pkl', data: bomb, deflate: true }])),
      'TORCH_FILE_INVALID',
      /data\.pkl.*limit/,
    ));
  test('a pickle of 80 MiB that says it has 100 bytes', async () =>
    refuses(
      await put(zip([{ name: 'a/data.pkl', data: bomb, deflate: true, claims: { size: 100 } }])),
      'TORCH_FILE_INVALID',
      /data\.pkl.*limit/,
    ));

  test('a deflated storage', async () =>
    refuses(await put(torchZip(good, { deflate: true })), 'TORCH_FILE_INVALID', /storage 0.*compressed/));
  test('a storage too small', async () =>
    refuses(await put(torchZip(good, { data: new Uint8Array(20) })), 'TORCH_FILE_INVALID', /storage 0/));
  test('a storage that is missing', async () =>
    refuses(await put(torchZip(good, { name: 'a/data/1' })), 'TORCH_FILE_INVALID', /storage 0/));
  test('an entry past the end', async () =>
    refuses(
      await put(torchZip(good, { claims: { size: 5000, compressedSize: 5000 } })),
      'TORCH_FILE_INVALID',
      /end of the file|file bounds/,
    ));
  test('two entries over the same bytes', async () =>
    refuses(
      await put(torchZip(good, {}, [{ name: 'a/data/1', data: good, claims: { at: 0 } }])),
      'TORCH_FILE_INVALID',
      /overlaps/,
    ));
  test('an entry twice', async () =>
    refuses(
      await put(torchZip(good, {}, [{ name: 'a/data.pkl', data: good }])),
      'TORCH_FILE_INVALID',
      /twice/,
    ));
  test('no pickle', async () =>
    refuses(await put(zip([{ name: 'x.txt', data: good }])), 'TORCH_FORMAT_UNSUPPORTED', /a zip archive/));
  test('big-endian zip', async () =>
    refuses(
      await put(torchZip(good, {}, [{ name: 'a/byteorder', data: latin1('big') }])),
      'TORCH_FORMAT_UNSUPPORTED',
      /big-endian/,
    ));
  for (const name of ['a/constants.pkl', 'a/code/__torch__.py']) {
    test(`TorchScript: ${name}`, async () =>
      refuses(
        await put(torchZip(good, {}, [{ name, data: good }])),
        'TORCH_FORMAT_UNSUPPORTED',
        /TorchScript.*model\.state_dict/,
      ));
  }

  const views: readonly (readonly [name: string, pickle: Buffer])[] = [
    ['past its storage', tensorPickle(6, 1, [2, 3], [3, 1])],
    ['of a huge shape', tensorPickle(6, 0, Array(6).fill(0x7fffffff), [1, 1, 1, 1, 1, 1])],
    ['of a negative extent', tensorPickle(6, 0, [-1], [1])],
    ['of a negative offset', tensorPickle(6, -1, [1], [1])],
    ['with a stride too few', tensorPickle(6, 0, [2, 3], [1])],
    ['of more elements than are there', tensorPickle(7, 0, [7], [1])],
    ['of a negative storage', tensorPickle(-6, 0, [1], [1])],
  ];
  for (const [name, pickle] of views) {
    test(`a tensor ${name}`, async () => {
      await assert.rejects(readTorchFile(await put(torchZip(pickle))), (error: unknown) => {
        assert.ok(error instanceof FormatError, String(error));
        assert.match(error.code, /^TORCH_(FILE_INVALID|FORMAT_UNSUPPORTED)$/);
        return true;
      });
    });
  }

  // In a process of its own, because an error in a callback ends it.
  const zip64Rows = [
    ["the locator's offset", 'PK\x06\x07', 8],
    ['the offset of the directory', 'PK\x06\x06', 48],
  ] as const;
  for (const [name, signature, field] of zip64Rows) {
    test(`zip64, ${name} past 2^53`, async () => {
      const bytes = await readFile(fixture('bags.zip'));
      const at = bytes.indexOf(signature, 0, 'latin1');
      assert.ok(at > 0);
      bytes[at + field + 6] = 0x8e;
      const path = await put(bytes, 'zip64.pt');
      const module = new URL('../../src/formats/torch-file.ts', import.meta.url).href;
      const program = `import { readTorchFile } from ${JSON.stringify(module)};
          await readTorchFile(${JSON.stringify(path)}).catch((error) => console.log(error.code));`;
      const { stdout, status } = spawnSync(
        process.execPath,
        ['--import', 'tsx', '--input-type=module', '-e', program],
        { encoding: 'utf8', cwd: fileURLToPath(new URL('../..', import.meta.url)), timeout: 30_000 },
      );
      assert.deepEqual([stdout, status], ['TORCH_FILE_INVALID\n', 0]);
    });
  }

  const deep = (depth: number) => ']'.repeat(depth) + 'a'.repeat(depth - 1);
  test('lists in lists, 100,000 deep: zip', async () => {
    const path = await put(torchZip(latin1(`${deep(100_000)}.`)));
    await readTorchFile(path).catch((error: unknown) =>
      assert.ok(error instanceof HotrowError, String(error)),
    );
  });
  test('lists in lists, 100,000 deep: the old format', async () => {
    const magic = LEGACY_HEAD.slice(0, LEGACY_HEAD.indexOf('.') + 1);
    for (const text of [
      `${LEGACY_HEAD}${deep(100_000)}.].`,
      `${LEGACY_HEAD}N.]${deep(100_000)}a.`,
      `${magic}${deep(100_000)}.`,
    ]) {
      const path = await put(latin1(text));
      await readTorchFile(path).catch((error: unknown) =>
        assert.ok(error instanceof HotrowError, String(error)),
      );
    }
  });

  test('random bytes after each magic: a HotrowError or a value', async () => {
    const heads = ['', 'PK\x03\x04', '\x80\x02', LEGACY_HEAD];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 300 }), async (head, bytes) => {
        const path = await put(Buffer.concat([latin1(head), bytes]), 'fuzz.pt');
        const began = performance.now();
        await readTorchFile(path).catch((error: unknown) =>
          assert.ok(error instanceof HotrowError, `${(error as Error).stack}`),
        );
        assert.ok(performance.now() - began < 2000);
      }),
      { numRuns: 400 },
    );
  });
});

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
    ['a tar', tar, /tar archive/],
    ['some text', 'hello', /torch\.save/],
    ['another pickle', latin1('\x80\x02K\x01.'), /torch\.save/],
    ['a gzipped file', gzipSync('abc'), /torch\.save/],
  ];
  for (const [name, bytes, pattern] of rows)
    test(name, async () => refuses(await put(bytes), 'TORCH_FORMAT_UNSUPPORTED', pattern));
  test('an empty file', async () => refuses(await put(''), 'FILE_TRUNCATED', /is empty/));
  test('a missing file', () =>
    assert.rejects(readTorchFile(join(folder, 'none.pt')), { code: 'FILE_NOT_FOUND' }));
  test('a folder', () => assert.rejects(readTorchFile(folder), { code: 'FILE_UNREADABLE' }));
});

describe('what PyTorch writes besides tensors', () => {
  test('sets and counters of protocol 2', async () => {
    const set = latin1('\x80\x02c__builtin__\nset\n](K\x01K\x02e\x85R.');
    assert.deepEqual(await readTorchFile(await put(torchZip(set))), new Set([1, 2]));
    const counter = latin1('\x80\x02ccollections\nCounter\n}K\x03K\x01s\x85R.');
    assert.deepEqual(await readTorchFile(await put(torchZip(counter))), new Map([[3, 1]]));
  });

  test('numpy scalars of few bytes', async () => {
    const scalar = (code: string, bytes: string): Buffer =>
      latin1(
        `\x80\x02cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\nU\x02${code}K\x00K\x01\x87RC${String.fromCharCode(bytes.length)}${bytes}tR.`,
      );
    assert.equal(await readTorchFile(await put(torchZip(scalar('f2', '\x00\x3e')))), 1.5);
    assert.equal(await readTorchFile(await put(torchZip(scalar('i2', '\xfd\xff')))), -3);
    assert.equal(await readTorchFile(await put(torchZip(scalar('u1', '\xc8')))), 200);
  });

  test('a strided tensor is named by its key', () =>
    refuses(fixture('strided.zip'), 'TORCH_FORMAT_UNSUPPORTED', /tensor transposed of shape/));

  test('millions of containers from kilobytes are refused', async () => {
    const data = latin1(`\x80\x02(${'}'.repeat(3_000_000)}t.`);
    const path = await put(zip([{ name: 'a/data.pkl', data, deflate: true }]));
    await refuses(path, 'PICKLE_INVALID', /more than 2000000 containers/);
  });

  test('a storage of another size than its elements', async () => {
    const good = tensorPickle(6, 0, [2, 3], [3, 1]);
    await refuses(await put(torchZip(good, { data: new Uint8Array(28) })), 'TORCH_FILE_INVALID', /storage 0/);
  });
});
