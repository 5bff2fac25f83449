import assert from 'node:assert/strict';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { FormatError, HotrowError, UsageError } from '../../src/errors.ts';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';
import { readTensor } from '../../src/stored-tensor.ts';
import { type HostTensor, isInFile } from '../../src/tensor.ts';
import fc from '../support/properties.ts';
import { leavesNoFilesOpen } from '../support/resources.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-safetensors-'));
});
after(() => rm(folder, { recursive: true }));

/** A file of a header and data bytes. */
async function file(
  header: unknown,
  dataBytes: number,
  name = 'x.safetensors',
  headerLength?: bigint,
): Promise<string> {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(headerLength ?? BigInt(json.length));
  const path = join(folder, name);
  await writeFile(path, Buffer.concat([prefix, json, Buffer.alloc(dataBytes)]));
  return path;
}

const f32 = (shape: number[], begin: number, end: number) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

async function refuses(path: string, pattern: RegExp): Promise<void> {
  await assert.rejects(readSafetensors(path), (error: unknown) => {
    assert.ok(error instanceof FormatError, String(error));
    assert.equal(error.code, 'SAFETENSORS_INVALID');
    assert.match(error.message, pattern);
    assert.ok(error.message.includes(path), 'names the file');
    return true;
  });
}

describe('safetensors', () => {
  test('what is written reads back the same', async () => {
    const tensors = new Map<string, HostTensor>([
      ['a', { dtype: 'float32', shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, Number.NaN) }],
      ['odd', { dtype: 'uint8', shape: [3], data: Uint8Array.of(1, 2, 3) }],
      ['b', { dtype: 'int64', shape: [2], data: BigInt64Array.of(-1n, 2n ** 40n) }],
      ['empty', { dtype: 'float16', shape: [0, 4], data: new Uint16Array(0) }],
      ['e4m3', { dtype: 'float8_e4m3', shape: [2], data: Uint8Array.of(0x38, 0x7e) }],
      ['e5m2', { dtype: 'float8_e5m2', shape: [1, 1], data: Uint8Array.of(0x3c) }],
      ['__proto__', { dtype: 'bool', shape: [], data: Uint8Array.of(1) }],
    ]);
    const path = join(folder, 'round-trip.safetensors');
    await writeSafetensors(path, tensors, { note: 'ü' });
    const read = await readSafetensors(path);
    assert.equal(read.metadata.note, 'ü');
    assert.deepEqual([...read.tensors.keys()].sort(), [...tensors.keys()].sort());
    for (const [name, tensor] of tensors) {
      const stored = read.tensors.get(name);
      assert.ok(stored);
      assert.deepEqual(await readTensor(stored), tensor);
    }
  });

  test('refuses a header of absurd size', async () => {
    await refuses(await file('{}', 0, 'x.safetensors', 2n ** 60n), /1152921504606846976 bytes/);
    await refuses(await file('{}', 0, 'x.safetensors', 5000n), /5000 bytes, the file has 10/);
  });

  test('refuses a truncated file and says by how much', async () => {
    await refuses(await file({ a: f32([4], 0, 16) }, 10), /tensor a: is 6 bytes short/);
  });

  test('refuses overlapping, gapped and trailing bytes', async () => {
    await refuses(await file({ a: f32([4], 0, 16), b: f32([4], 8, 24) }, 24), /tensor b: overlaps a/);
    await refuses(
      await file({ a: f32([4], 0, 16), b: f32([4], 20, 36) }, 36),
      /tensor b: leaves 4 bytes unused after a/,
    );
    await refuses(await file({ a: f32([4], 0, 16) }, 20), /4 bytes after its last tensor/);
  });

  test('every bound, at it and one byte past it', async () => {
    const u8 = (shape: number[], begin: number, end: number) => ({ ...f32(shape, begin, end), dtype: 'U8' });
    const ones = (rank: number) => Array.from({ length: rank }, () => 1);
    const layouts: readonly (readonly [header: object, dataBytes: number, refused?: RegExp])[] = [
      [{ a: u8([4], 0, 4), b: u8([4], 4, 8) }, 8],
      [{ a: u8([4], 0, 4), b: u8([4], 3, 7) }, 7, /tensor b: overlaps a/],
      [{ a: u8([4], 0, 4), b: u8([4], 5, 9) }, 9, /tensor b: leaves 1 bytes unused after a/],
      [{ a: u8([4], 1, 5) }, 5, /tensor a: leaves 1 bytes unused after the header/],
      [{ a: u8([4], 0, 4) }, 3, /tensor a: is 1 bytes short/],
      [{ a: u8([4], 0, 4) }, 5, /has 1 bytes after its last tensor/],
      [{ a: u8([4], 0, 5) }, 5, /needs 4 bytes, data_offsets give 5/],
      [{ a: u8([5], 0, 4) }, 4, /needs 5 bytes, data_offsets give 4/],
      [{ a: u8([4], -4, 0) }, 0, /data_offsets \[-4,0\] are not two positions/],
      [{ a: { ...u8([4], 0, 4), data_offsets: [0, 4, 4] } }, 4, /are not two positions/],
      [{ a: { ...u8([4], 0, 4), data_offsets: [4] } }, 4, /are not two positions/],
      [{ a: u8(ones(64), 0, 1) }, 1],
      [{ a: u8(ones(65), 0, 1) }, 1, /shape a list of 65 is not a list of extents/],
      // Empty tensors may stand anywhere, named in any order.
      [{ full: u8([4], 0, 4), empty: u8([0], 0, 0) }, 4],
    ];
    for (const [header, dataBytes, refused] of layouts) {
      const path = await file(header, dataBytes);
      if (refused !== undefined) await refuses(path, refused);
      else
        assert.deepEqual(
          [...(await readSafetensors(path)).tensors.keys()].sort(),
          Object.keys(header).sort(),
        );
    }
    // A header that ends one byte past the file, and one that is one byte longer than the format allows.
    await refuses(await file('{}', 0, 'x.safetensors', 3n), /header has 3 bytes, the file has 10/);
    await refuses(await file('{}', 0, 'x.safetensors', 100_000_000n), /the file has 10/);
    await refuses(await file('{}', 0, 'x.safetensors', 100_000_001n), /more than the format's 100000000/);
  });

  test('data begin at a multiple of eight bytes, whatever the names are', async () => {
    for (let length = 1; length <= 8; length++) {
      const path = join(folder, 'aligned.safetensors');
      const tensor: HostTensor = { dtype: 'float32', shape: [1], data: Float32Array.of(length) };
      await writeSafetensors(path, new Map([['ü'.repeat(length), tensor]]));
      const [stored] = (await readSafetensors(path)).tensors.values();
      assert.ok(stored !== undefined && isInFile(stored));
      assert.equal(stored.byteOffset % 8, 0);
    }
  });

  test('a file is not written over one that its tensors come from', async () => {
    const path = await file({ a: f32([1], 0, 4) }, 4, 'source.safetensors');
    const { tensors } = await readSafetensors(path);
    const stored = tensors.get('a');
    assert.ok(stored !== undefined);
    const written = writeSafetensors(
      path,
      new Map([['a', await readTensor(stored)]]),
      {},
      { sources: [path] },
    );
    await assert.rejects(written, UsageError);
    assert.deepEqual([...(await readSafetensors(path)).tensors.keys()], ['a']);
  });

  test('leaves no file open, whether it can be read or not', async () => {
    const good = await file({ a: f32([1], 0, 4) }, 4, 'good.safetensors');
    const bad = await file('[]', 0, 'bad.safetensors');
    await leavesNoFilesOpen(async () => {
      await readSafetensors(good);
      await refuses(bad, /not an object/);
    });
  });

  test('refuses entries that contradict themselves', async () => {
    await refuses(await file({ a: f32([4], 0, 12) }, 12), /needs 16 bytes, data_offsets give 12/);
    await refuses(
      await file({ a: { dtype: 'F8_E8M0', shape: [4], data_offsets: [0, 4] } }, 4),
      /dtype "F8_E8M0" is not supported/,
    );
    await refuses(
      await file({ a: { dtype: 'constructor', shape: [4], data_offsets: [0, 4] } }, 4),
      /not supported/,
    );
    await refuses(await file({ a: f32([-1], 0, 4) }, 4), /shape \[-1\]/);
    await refuses(await file({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4), /too large/);
    const deep = '['.repeat(200_000) + ']'.repeat(200_000);
    await refuses(
      await file(`{"a":{"dtype":"F32","shape":${deep},"data_offsets":[0,4]}}`, 4),
      /nested more than 64 deep/,
    );
    await refuses(
      await file(`{"a":{"dtype":${deep},"shape":[],"data_offsets":[0,4]}}`, 4),
      /nested more than 64 deep/,
    );
    await refuses(await file({ a: 7 }, 0), /not an object/);
    await refuses(await file('[]', 0), /not an object/);
    await refuses(await file('{"a":', 0), /not JSON/);
    await refuses(await file({ __metadata__: { a: 1 } }, 0), /not an object of strings/);
    await refuses(await file('', 0, 'x.safetensors', 0n), /not JSON/);
  });

  test('refuses a name that stands twice', async () => {
    const entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
    await refuses(await file(`{"a":${entry},"a":${entry}}`, 4), /tensor a: header names it twice/);
    // The same name, written in two ways.
    await refuses(await file(`{"a":${entry},"\\u0061":${entry}}`, 4), /tensor a: header names it twice/);
  });

  test('any bytes give a file or an error of Hotrow', async () => {
    await fc.assert(
      fc.asyncProperty(fc.json(), fc.nat(64), async (json, bytes) => {
        const path = await file(json, bytes, 'fuzz.safetensors');
        await readSafetensors(path).catch((error) => assert.ok(error instanceof HotrowError, String(error)));
      }),
      { numRuns: 200 },
    );
  });

  test('a missing file is named', async () => {
    await assert.rejects(readSafetensors(join(folder, 'none')), { code: 'FILE_NOT_FOUND' });
    await assert.rejects(readSafetensors(folder), { code: 'FILE_UNREADABLE' });
  });

  test('a tensor past 4 GiB reads right', async () => {
    const path = join(folder, 'large.safetensors');
    const hole = 5 * 2 ** 30;
    const header = {
      hole: { dtype: 'U8', shape: [hole], data_offsets: [0, hole] },
      tail: f32([2], hole, hole + 8),
    };
    await file(header, 0, 'large.safetensors');
    const handle = await open(path, 'r+');
    const { size } = await handle.stat();
    await handle.write(new Uint8Array(Float32Array.of(1.5, -2).buffer), 0, 8, size + hole);
    await handle.close();
    const { tensors } = await readSafetensors(path);
    const tail = tensors.get('tail');
    assert.ok(tail);
    assert.deepEqual((await readTensor(tail)).data, Float32Array.of(1.5, -2));
  });
});
