/** Standard input: looked at as far as is needed to tell what it is, then read once. */
import { fileError, UsageError } from '../errors.ts';

/** What is looked at of it at most; nothing more is held in memory. */
const MAX_PEEK_BYTES = 128 << 20;

class StandardInput {
  /** What was looked at. */
  #head: Buffer[] = [];
  #bytes = 0;
  #chunks: AsyncIterator<Buffer> | undefined;
  #ended = false;
  #taken = false;

  /** The first `bytes`, fewer where it ends before them. @throws UsageError FILE_UNREADABLE. */
  async peek(file: string, bytes: number): Promise<Buffer> {
    this.#refuseTaken(file);
    while (this.#bytes < Math.min(bytes, MAX_PEEK_BYTES)) {
      const chunk = await this.#next(file);
      if (chunk === undefined) break;
      this.#head.push(chunk);
      this.#bytes += chunk.length;
    }
    if (this.#head.length > 1) this.#head = [Buffer.concat(this.#head)];
    return (this.#head[0] ?? Buffer.alloc(0)).subarray(0, bytes);
  }

  /** All of its bytes. @throws UsageError FILE_UNREADABLE, also the second time. */
  async *read(file: string): AsyncGenerator<Buffer> {
    this.#refuseTaken(file);
    this.#taken = true;
    const head = this.#head;
    this.#head = [];
    yield* head;
    for (let chunk = await this.#next(file); chunk !== undefined; chunk = await this.#next(file)) yield chunk;
  }

  #refuseTaken(file: string): void {
    if (this.#taken)
      throw new UsageError('FILE_UNREADABLE', `${file}: standard input can be read once only`, {
        file,
        hint: 'write it to a file first, and name that',
      });
  }

  async #next(file: string): Promise<Buffer | undefined> {
    if (this.#ended) return undefined;
    const { stdin } = process;
    this.#chunks ??= stdin[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    // It keeps the process alive while it is waited for, and no longer.
    stdin.ref?.();
    try {
      const { value, done } = await this.#chunks.next();
      if (done !== true) return value;
      this.#ended = true;
      return undefined;
    } catch (cause) {
      throw fileError(file, cause);
    } finally {
      stdin.unref?.();
    }
  }
}

/** This process's. */
export const standardInput = new StandardInput();
