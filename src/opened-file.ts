/**
 * Files that are open, for whoever reads and writes them piece by piece or as a whole.
 *
 * Each is opened at once. Node's own promises open files in a thread of its pool: where the worker thread that asked for one is
 * ended meanwhile, nobody learns of the descriptor, and it stays open as long as the process. What is opened at once is closed with
 * the thread.
 */
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsync,
  openSync,
  read,
  readFile,
  type Stats,
  write,
} from 'node:fs';
import { promisify } from 'node:util';

const calls = {
  read: promisify(read),
  readFile: promisify(readFile),
  write: promisify(write),
  fsync: promisify(fsync),
};

/** A file that is open. Every method throws errors of the system. */
export class OpenedFile implements AsyncDisposable {
  #fd: number;
  readonly #underWay = new Set<Promise<unknown>>();

  /** `flags`: as those of open(2), or 'r', 'w', 'wx' and so on. @throws errors of the system. */
  constructor(path: string, flags: string | number) {
    this.#fd = openSync(path, flags);
  }

  stat(): Stats {
    return fstatSync(this.#fd);
  }

  /** Bytes, as many as there are now. */
  get size(): number {
    return this.stat().size;
  }

  /** Reads up to `length` bytes into `into` from its byte `offset` on; `position` null: where the last read ended. @returns how many. */
  async read(into: Uint8Array, offset: number, length: number, position: number | null): Promise<number> {
    return (await this.#use(calls.read(this.#fd, into, offset, length, position))).bytesRead;
  }

  /** All that follows what was read by position null. */
  readAll(): Promise<Buffer> {
    return this.#use(calls.readFile(this.#fd));
  }

  /** Writes all of `bytes` behind what was written. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const length = Math.min(WRITE_BYTES, bytes.length - done);
      done += (await this.#use(calls.write(this.#fd, bytes, done, length))).bytesWritten;
    }
  }

  /** Waits until what was written is on the disk. */
  sync(): Promise<void> {
    return this.#use(calls.fsync(this.#fd));
  }

  chmod(mode: number): void {
    fchmodSync(this.#fd, mode);
  }

  async chown(uid: number, gid: number): Promise<void> {
    fchownSync(this.#fd, uid, gid);
  }

  /** Closes it when the calls that are under way have ended. A second time does nothing. */
  async close(): Promise<void> {
    const fd = this.#fd;
    // No further call may reach a descriptor that is another file's by then.
    this.#fd = CLOSED;
    await Promise.allSettled(this.#underWay);
    if (fd !== CLOSED) closeSync(fd);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #use<T>(call: Promise<T>): Promise<T> {
    this.#underWay.add(call);
    try {
      return await call;
    } finally {
      this.#underWay.delete(call);
    }
  }
}

/** No descriptor: calls refuse it. */
const CLOSED = -1;
/** One call writes less than 2 GiB. */
const WRITE_BYTES = 1 << 30;

/** A file's bytes. @throws errors of the system. */
export async function readWhole(path: string): Promise<Buffer> {
  await using file = new OpenedFile(path, 'r');
  return await file.readAll();
}

/** A file's text; '' where it cannot be read. */
export function textIfThere(path: string): Promise<string> {
  return readWhole(path).then(String, () => '');
}

/** Writes a file, or with `flags` 'a' adds to one. @throws errors of the system. */
export async function writeWhole(
  path: string,
  contents: string | Uint8Array,
  flags: 'w' | 'a' = 'w',
): Promise<void> {
  await using file = new OpenedFile(path, flags);
  await file.write(typeof contents === 'string' ? Buffer.from(contents) : contents);
}
