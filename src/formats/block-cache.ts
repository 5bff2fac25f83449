/** Reads of files in blocks that are kept for a while: many small pieces side by side take few calls. */
import { openFile } from '../input-file.ts';
import { readFully } from '../stored-tensor.ts';
import type { RandomAccess } from './torch/zip-directory.ts';

const BLOCK_BYTES = 1 << 16;

/** 16 MiB, of all files together. */
const MAX_BLOCKS = 256;

export class BlockCache {
  /** By file and number, those used last at the end. */
  readonly #blocks = new Map<string, Promise<Buffer>>();

  /** A file of `size` bytes; a read past its end gives fewer bytes. Reads throw UsageError FILE_*, FormatError FILE_TRUNCATED. */
  file(file: string, size: number): RandomAccess {
    return {
      size,
      read: async (into, offset, length, position) => {
        const end = Math.min(position + length, size);
        for (let at = position; at < end; ) {
          const begin = at - (at % BLOCK_BYTES);
          const block = await this.#block(file, begin, Math.min(BLOCK_BYTES, size - begin));
          at += block.copy(into, offset + at - position, at - begin, end - begin);
        }
        return Math.max(0, end - position);
      },
    };
  }

  #block(file: string, begin: number, length: number): Promise<Buffer> {
    const key = `${begin} ${file}`;
    const block = this.#blocks.get(key) ?? load(file, begin, length);
    this.#blocks.delete(key);
    this.#blocks.set(key, block);
    const [oldest] = this.#blocks.keys();
    if (this.#blocks.size > MAX_BLOCKS) this.#blocks.delete(oldest as string);
    return block;
  }
}

async function load(file: string, begin: number, length: number): Promise<Buffer> {
  const block = Buffer.allocUnsafe(length);
  await using opened = await openFile(file);
  await readFully(opened, block, begin);
  return block;
}
