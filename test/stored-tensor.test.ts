import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { chunksOf, readBytes, readFully, readTensor, shareTied } from '../src/stored-tensor.ts';
import type { AssembledTensor, FileTensor, StoredTensor } from '../src/tensor.ts';
import { leavesNoFilesOpen } from './support/resources.ts';

let folder = '';
let file = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-stored-'));
  file = join(folder, 'bytes');
  await writeFile(
    file,
    Uint8Array.from({ length: 64 }, (_, i) => i),
  );
});
after(() => rm(folder, { recursive: true }));

/** Bytes 8 … 47 of the file. */
const stored = (): FileTensor => ({ dtype: 'uint8', shape: [40], file, byteOffset: 8, byteLength: 40 });
const counting = (first: number, count: number) => Uint8Array.from({ length: count }, (_, i) => first + i);

const tensor = (change: Partial<FileTensor> = {}): FileTensor => ({
  dtype: 'float32',
  shape: [4, 2],
  file: 'model.pt',
  byteOffset: 64,
  byteLength: 32,
  ...change,
});

test('tensors in the same bytes become one object, all others stay', () => {
  const { file, byteOffset: _, ...known } = tensor();
  const assembled: AssembledTensor = { ...known, files: [file], read: async () => {} };
  const others: [string, StoredTensor][] = [
    ['further on', tensor({ byteOffset: 96 })],
    ['another file', tensor({ file: 'other.pt' })],
    ['another shape', tensor({ shape: [2, 4] })],
    ['another type', tensor({ dtype: 'int32' })],
    ['annotated', tensor({ annotation: 'x' })],
    ['assembled', assembled],
    ['assembled too', { ...assembled }],
  ];
  const first = tensor();
  const tensors = new Map([['first', first], ...others, ['tied', tensor()]]);
  const shared = shareTied(tensors);
  assert.deepEqual([...shared.keys()], [...tensors.keys()]);
  assert.equal(shared.get('tied'), first);
  assert.equal(shared.get('first'), first);
  for (const [name, other] of others) assert.equal(shared.get(name), other, name);
});

test('a tensor, a part of it, and its chunks are read from where it lies, and the file is closed', async () => {
  await leavesNoFilesOpen(async () => {
    assert.deepEqual((await readTensor(stored())).data, counting(8, 40));
    const part = new Uint8Array(5);
    await readBytes(stored(), part, 20);
    assert.deepEqual(part, counting(28, 5));
    const chunks: Uint8Array[] = [];
    for await (const chunk of chunksOf(stored(), 16)) chunks.push(chunk);
    assert.deepEqual(chunks, [counting(8, 16), counting(24, 16), counting(40, 8)]);
    for await (const _ of chunksOf(stored(), 16)) break;
  });
});

test('a file that ends within a tensor is truncated', async () => {
  const past = { ...stored(), byteOffset: 25 };
  await leavesNoFilesOpen(async () => {
    await assert.rejects(readTensor(past), { code: 'FILE_TRUNCATED', message: /ends at byte 64/ });
    const chunks = async () => {
      for await (const _ of chunksOf(past, 30));
    };
    await assert.rejects(chunks(), { code: 'FILE_TRUNCATED' });
  });
});

test('reads that give less than they were asked for go on behind it', async () => {
  const file = {
    path: 'a file',
    read: async (into: Uint8Array, offset: number, length: number, position: number) => {
      const bytesRead = Math.min(3, length);
      into.set(counting(position, bytesRead), offset);
      return bytesRead;
    },
  };
  const into = new Uint8Array(10);
  await readFully(file, into, 100);
  assert.deepEqual(into, counting(100, 10));
});

test('4 GiB are not read as one', async () => {
  const large = { ...stored(), byteLength: 2 ** 32 };
  await assert.rejects(readTensor(large), {
    code: 'OUT_OF_MEMORY',
    message: /4294967296 bytes: less than 4 GiB/,
  });
});
