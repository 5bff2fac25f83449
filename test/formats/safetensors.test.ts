import assert from 'node:assert/strict';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { FormatError, HotrowError } from '../../src/errors.ts';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';
import { readTensor } from '../../src/stored-tensor.ts';
import type { HostTensor } from '../../src/tensor.ts';
import fc from '../support/properties.ts';

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
