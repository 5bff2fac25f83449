import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import { FormatError, HotrowError } from '../../../src/errors.ts';
import { loadCheckpoint } from '../../../src/model/checkpoint/checkpoint.ts';
import { readTensor } from '../../../src/stored-tensor.ts';
import fc from '../../support/properties.ts';
import {
  LEGACY_HEAD,
  latin1,
  readStored,
  refusalsOf,
  tensorPickle,
  torchFixture,
  torchZip,
  zip,
} from '../../support/torch-files.ts';

/** For a process that never ends; no machine is so slow. */
const HANGS_MS = 300_000;

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-hostile-'));
});
after(() => rm(folder, { recursive: true }));

async function put(bytes: Uint8Array | string, name = 'x.pt'): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

const refuses = refusalsOf(readStored);

describe('hostile files', () => {
  const system = '\x80\x02cos\nsystem\nU\x02id\x85R.';
  const forbidden = /os\.system.*nothing in the file was executed/;
  test('os.system in a zip', async () =>
    refuses(await put(torchZip(latin1(system))), 'PICKLE_FORBIDDEN', forbidden));
  test('os.system in the old format', async () =>
    refuses(await put(latin1(`${LEGACY_HEAD}${system}].`)), 'PICKLE_FORBIDDEN', forbidden));
  test('os.system where the magic should be', async () =>
    refuses(
      await put(latin1(system)),
      'TORCH_FORMAT_UNSUPPORTED',
      /torch\.save did not write.*nothing in it was executed/,
    ));

  const good = tensorPickle(6, 0, [2, 3], [3, 1]);
  test('the zip of these tests is good', async () => {
    const [tensor] = await readStored(await put(torchZip(good)));
    assert.ok(tensor !== undefined);
    assert.deepEqual((await readTensor(tensor)).data, Float32Array.of(0, 1, 2, 3, 4, 5));
  });
  test('a deflated pickle is good too', async () => {
    const path = await put(
      zip([
        { name: 'a/data.pkl', data: good, deflate: true },
        { name: 'a/data/0', data: new Uint8Array(24) },
      ]),
    );
    assert.deepEqual(
      (await readStored(path)).map(({ shape }) => shape),
      [[2, 3]],
    );
  });

  test('a pickle of another CRC-32; 0 says that none was taken', async () => {
    const write = (value: number, deflate = false) =>
      put(
        zip([
          { name: 'a/data.pkl', data: good, deflate, claims: { crc32: value } },
          { name: 'a/data/0', data: new Uint8Array(24) },
        ]),
      );
    for (const deflate of [false, true]) {
      await refuses(await write(1, deflate), 'TORCH_FILE_INVALID', /data\.pkl is damaged: its CRC-32/);
      for (const value of [crc32(good), 0])
        assert.equal((await readStored(await write(value, deflate))).length, 1);
    }
  });
  test('a pickle changed by one bit', async () => {
    for (const name of ['whole.zip', 'checkpoint.zip', 'bags.zip']) {
      const bytes = await readFile(torchFixture(name));
      const at = bytes.indexOf('_rebuild_tensor_v2');
      bytes[at + 20] = (bytes[at + 20] as number) ^ 1;
      await refuses(await put(bytes), 'TORCH_FILE_INVALID', /data\.pkl is damaged/);
    }
  });
  test('a directory that contradicts the header before the bytes', async () =>
    refuses(
      await put(zip([{ name: 'a/data.pkl', data: good, claims: { method: 8 } }])),
      'TORCH_FILE_INVALID',
      /method 0 before its bytes, 8 in the directory/,
    ));
  test('a pickle of another size than the directory says', async () =>
    refuses(
      await put(zip([{ name: 'a/data.pkl', data: good, deflate: true, claims: { size: 7 } }])),
      'TORCH_FILE_INVALID',
      /the directory says 7/,
    ));

  describe('what a pickle holds once and uses many times', () => {
    const count = 30_000;
    const uint32 = (value: number) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(value);
      return bytes.toString('latin1');
    };
    const text = (value: string) => `X${uint32(value.length)}${value}`;
    const archive = (pickle: string) =>
      put(
        zip([
          { name: 'a/data.pkl', data: latin1(`\x80\x02${pickle}.`) },
          { name: 'a/data/0', data: new Uint8Array(4) },
        ]),
      );
    const storage = `(${text('storage')}ctorch\nFloatStorage\n${text('0')}${text('cpu')}K\x01tQ`;
    const tensor = (on: string) => `ctorch._utils\n_rebuild_tensor_v2\n(${on}K\x00(K\x01t(K\x01t\x89NtR`;
    const items = (item: (i: number) => string) =>
      `}(${Array.from({ length: count }, (_, i) => item(i)).join('')}u`;

    // Each took minutes when work grew with the product.
    const programs: readonly (readonly [name: string, pickle: () => string, code: HotrowError['code']])[] = [
      [
        'a shape',
        () =>
          `(${'K\x01'.repeat(count)}tq\x000${storage}q\x010` +
          items((i) => `${text(`t${i}`)}ctorch._utils\n_rebuild_tensor_v2\n(h\x01K\x00h\x00h\x00\x89NtR`),
        'TORCH_FILE_INVALID',
      ],
      [
        'a dict',
        () => `${items((i) => `${text(`k${i}`)}N`)}q\x000${items((i) => `${text(`d${i}`)}h\x00`)}`,
        'CHECKPOINT_UNRECOGNISED',
      ],
      [
        'a long key',
        () =>
          `${text('x'.repeat(1 << 20))}q\x000${tensor(storage)}q\x010${items((i) => `${text(`d${i}`)}}h\x00h\x01s`)}`,
        'CHECKPOINT_UNSUPPORTED',
      ],
      [
        'a long name of a storage',
        () =>
          `${text('x'.repeat(1 << 20))}q\x000${items((i) => `${text(`t${i}`)}${tensor(storage.replace(text('0'), 'h\x00'))}`)}`,
        'TORCH_FILE_INVALID',
      ],
      ['dicts', () => items((i) => `${text(`d${i}`)}}`), 'CHECKPOINT_UNRECOGNISED'],
      [
        'a key within itself',
        () => `${'('.repeat(count)}${'t'.repeat(count)}q\x000}h\x00Ns`,
        'CHECKPOINT_UNRECOGNISED',
      ],
    ];
    for (const [name, pickle, code] of programs)
      test(name, async () => {
        const path = await archive(pickle());
        await assert.rejects(loadCheckpoint(path), (error: unknown) => {
          assert.ok(error instanceof HotrowError, String(error));
          assert.equal(error.code, code, error.message.slice(0, 500));
          return true;
        });
      });
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
    refuses(
      await put(torchZip(good, { deflate: true })),
      'TORCH_FORMAT_UNSUPPORTED',
      /storage 0.*compressed/,
    ));
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
      await assert.rejects(readStored(await put(torchZip(pickle))), (error: unknown) => {
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
      const bytes = await readFile(torchFixture('bags.zip'));
      const at = bytes.indexOf(signature, 0, 'latin1');
      assert.ok(at > 0);
      bytes[at + field + 6] = 0x8e;
      const path = await put(bytes, 'zip64.pt');
      const module = new URL('../../../src/formats/torch/torch-file.ts', import.meta.url).href;
      const program = `import { readTorchFile } from ${JSON.stringify(module)};
          await readTorchFile(${JSON.stringify(path)}).catch((error) => console.log(error.code));`;
      const { stdout, status } = spawnSync(
        process.execPath,
        ['--import', 'tsx', '--input-type=module', '-e', program],
        { encoding: 'utf8', cwd: fileURLToPath(new URL('../../..', import.meta.url)), timeout: HANGS_MS },
      );
      assert.deepEqual([stdout, status], ['TORCH_FILE_INVALID\n', 0]);
    });
  }

  const deep = (depth: number) => ']'.repeat(depth) + 'a'.repeat(depth - 1);
  test('lists in lists, 100,000 deep: zip', async () => {
    const path = await put(torchZip(latin1(`${deep(100_000)}.`)));
    await readStored(path).catch((error: unknown) => assert.ok(error instanceof HotrowError, String(error)));
  });
  test('lists in lists, 100,000 deep: the old format', async () => {
    const magic = LEGACY_HEAD.slice(0, LEGACY_HEAD.indexOf('.') + 1);
    for (const text of [
      `${LEGACY_HEAD}${deep(100_000)}.].`,
      `${LEGACY_HEAD}N.]${deep(100_000)}a.`,
      `${magic}${deep(100_000)}.`,
    ]) {
      const path = await put(latin1(text));
      await readStored(path).catch((error: unknown) =>
        assert.ok(error instanceof HotrowError, String(error)),
      );
    }
  });

  test('random bytes after each magic: a HotrowError or a value', async () => {
    const heads = ['', 'PK\x03\x04', '\x80\x02', LEGACY_HEAD];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 300 }), async (head, bytes) => {
        const path = await put(Buffer.concat([latin1(head), bytes]), 'fuzz.pt');
        await readStored(path).catch((error: unknown) =>
          assert.ok(error instanceof HotrowError, `${(error as Error).stack}`),
        );
      }),
      { numRuns: 400 },
    );
  });

  test('millions of containers from kilobytes are refused', async () => {
    const data = latin1(`\x80\x02(${'}'.repeat(3_000_000)}t.`);
    const path = await put(zip([{ name: 'a/data.pkl', data, deflate: true }]));
    await refuses(path, 'PICKLE_INVALID', /more than 2000000 containers/);
  });
  test('millions of placeholders from kilobytes are refused', async () => {
    const data = latin1(`\x80\x02cx\ny\nq\x00)q\x01(${'h\x00h\x01R'.repeat(3_000_000)}t.`);
    const path = await put(zip([{ name: 'a/data.pkl', data, deflate: true }]));
    await refuses(path, 'PICKLE_INVALID', /more than 2000000 containers/);
  });
  test('a name of a megabyte is looked up once at most', async () => {
    const name = Buffer.concat([latin1('X\x00\x00\x10\x00'), Buffer.alloc(1 << 20, 'a')]);
    const pickle = Buffer.concat([name, latin1(`q\x000(${'h\x00h\x00\x93'.repeat(100_000)}t.`)]);
    await refuses(await put(torchZip(pickle)), 'PICKLE_INVALID', /absurd name/);
  });
});
