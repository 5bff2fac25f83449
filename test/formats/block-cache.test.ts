/** Blocks of files that are kept: how many, and what is read of them. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BlockCache } from '../../src/formats/block-cache.ts';

const BLOCK_BYTES = 1 << 16;
const MOST_BLOCKS = 256;

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-blocks-'));
});
after(() => rm(folder, { recursive: true }));

/** Byte i of a file that begins with `first`. */
const contents = (length: number, first: number) => new Uint8Array(length).map((_, i) => (first + i) % 251);

test('any part of files side by side; a read past the end gives fewer bytes', async () => {
  const cache = new BlockCache();
  const size = 3 * BLOCK_BYTES + 10;
  const files = await Promise.all(
    [0, 100].map(async (first) => {
      const path = join(folder, `file-${first}`);
      await writeFile(path, contents(size, first));
      return { first, file: cache.file(path, size) };
    }),
  );
  for (const [position, length] of [
    [0, 10],
    [BLOCK_BYTES - 3, 7],
    [BLOCK_BYTES, 2 * BLOCK_BYTES + 10],
    [size - 4, 4],
    [size - 4, 5],
    [size, 3],
    [size + 9, 3],
  ] as const)
    for (const { first, file } of files) {
      const into = Buffer.alloc(length + 2);
      const bytesRead = await file.read(into, 1, length, position);
      const expected = contents(size, first).subarray(position, position + length);
      assert.equal(bytesRead, expected.length);
      assert.deepEqual(new Uint8Array(into.subarray(1, 1 + bytesRead)), expected);
      assert.ok(
        into[0] === 0 && into.subarray(1 + bytesRead).every((byte) => byte === 0),
        'nothing beside it',
      );
    }
});

test('so many blocks are kept, and of more the one that was used longest ago goes', async () => {
  const cache = new BlockCache();
  const size = (MOST_BLOCKS + 1) * BLOCK_BYTES;
  const path = join(folder, 'many');
  await writeFile(path, contents(size, 0));
  const file = cache.file(path, size);
  const read = (block: number) => file.read(Buffer.alloc(1), 0, 1, block * BLOCK_BYTES);
  for (let block = 0; block < MOST_BLOCKS; block++) await read(block);
  await read(0);
  await read(MOST_BLOCKS);
  await rm(path);
  for (const kept of [0, 2, MOST_BLOCKS]) await read(kept);
  await assert.rejects(read(1), { code: 'FILE_NOT_FOUND' });
});
