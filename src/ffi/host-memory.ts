/** Memory of this process by its addresses: allocated, mapped from files, read into, copied. */
import { availableParallelism } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import koffi from 'koffi';
import { type ArrayName, type ArrayOf, bufferOf, bytesOf, unreadable } from '../checks/array.ts';
import { DeviceError, FormatError, fileError, RequestError } from '../errors.ts';
import { checkRun, inBackground, library } from './native-library.ts';
import { createPool, type ThreadPool } from './thread-pool.ts';

/** An address in this process. */
export type HostPtr = bigint & { readonly __brand: 'HostPtr' };
export const NULL_PTR = 0n as HostPtr;

/**
 * The address of a typed array's first element. The caller keeps the array alive while the address is in use.
 * @throws RequestError TENSOR_DTYPE for memory that can be resized, or was transferred to another owner.
 */
export function addressOf(array: ArrayBufferView): HostPtr {
  const reason = unreadable(array);
  if (reason !== undefined) throw new RequestError('TENSOR_DTYPE', `an array ${reason}`);
  // Reading .buffer moves a small array off the JavaScript heap, where the collector could move it.
  if (bufferOf(array).byteLength === 0) return NULL_PTR;
  return koffi.address(array) as HostPtr;
}

/** `length` bytes of native memory, length ≤ 1 GiB. Not to be used after the memory is freed. */
export function viewMemory(address: HostPtr, length: number): ArrayBuffer {
  return koffi.view(address, length);
}

/** Bytes of a piece that is filled at once. */
const FILL_BYTES = 64 << 20;

/** Anonymous memory that is given back when disposed. */
export class NativeMemory implements Disposable {
  readonly #address: HostPtr;
  readonly bytes: number;
  #live = true;

  /** @throws DeviceError OUT_OF_MEMORY. */
  constructor(bytes: number, hugePages = false) {
    this.bytes = Math.max(bytes, 1);
    this.#address = BigInt(library().alloc(this.bytes, hugePages ? 1 : 0)) as HostPtr;
    if (this.#address === 0n) {
      throw new DeviceError('OUT_OF_MEMORY', `cannot allocate ${this.bytes} bytes`, {
        hint: 'close other programs, use a smaller batch, or switch hugePages off in the plan so that tables stay mapped',
      });
    }
  }

  get address(): HostPtr {
    if (!this.#live) throw new DeviceError('DISPOSED', 'memory was used after it was disposed');
    return this.#address;
  }

  /** Bytes [offset, offset + length), length ≤ 1 GiB. Not to be used after disposal. */
  view(offset: number, length: number): Uint8Array {
    return new Uint8Array(viewMemory((this.address + BigInt(offset)) as HostPtr, length));
  }

  /** Copies a host array to byte `offset`. */
  write(source: ArrayOf<ArrayName>, offset = 0): void {
    const bytes = new Uint8Array(source.buffer, source.byteOffset, bytesOf(source));
    const window = 1 << 30;
    for (let done = 0; done < bytes.length; done += window) {
      const part = bytes.subarray(done, done + window);
      this.view(offset + done, part.length).set(part);
    }
  }

  /** Reads bytes of a file into byte `offset`. @throws FormatError FILE_TRUNCATED; UsageError FILE_*. */
  async readFile(file: string, fileOffset: number, length: number, offset = 0): Promise<void> {
    await readFileTo((this.address + BigInt(offset)) as HostPtr, file, fileOffset, length);
  }

  /** Fills the first `bytes` bytes, piece by piece: `read` fills a piece from byte `at` on. @throws what `read` throws. */
  async fill(bytes: number, read: (into: Uint8Array, at: number) => Promise<void>): Promise<void> {
    for (let at = 0; at < bytes; at += FILL_BYTES) {
      await read(this.view(at, Math.min(FILL_BYTES, bytes - at)), at);
    }
  }

  /** Bytes backed by huge pages now; undefined where the system does not say. */
  hugeBytes(): number | undefined {
    const bytes = Number(library().hugeBytes(this.address, this.bytes));
    return bytes < 0 ? undefined : bytes;
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    this.#live = false;
    library().free(this.#address);
  }
}

/** The library's `hr_mapping` of a file. */
export type MappingPtr = bigint & { readonly __brand: 'MappingPtr' };

/** A file mapped privately, which notices when it is written or cut. */
export class MappedFile implements Disposable {
  readonly mapping: MappingPtr;
  readonly address: HostPtr;
  readonly bytes: number;
  #live = true;

  /** @throws UsageError FILE_*. */
  constructor(readonly file: string) {
    const address = new BigInt64Array(1);
    const bytes = new BigInt64Array(1);
    const error = new BigInt64Array(1);
    this.mapping = BigInt(library().mapFile(file, address, bytes, error)) as MappingPtr;
    this.address = address[0] as HostPtr;
    this.bytes = Number(bytes[0]);
    if (this.mapping === 0n) {
      throw fileError(file, errnoError(Number(error[0])));
    }
  }

  /** Whether it was changed in place since it was mapped. */
  hasChanged(): boolean {
    return this.#live && Number(library().hasFileChanged(this.mapping)) !== 0;
  }

  /**
   * Lets bytes [begin, begin + length) be written. A page is copied when it is first written; the file stays as it is.
   * @throws DeviceError OUT_OF_MEMORY where the system refuses.
   */
  makeWritable(begin: number, length: number): void {
    const status = Number(library().makeWritable(this.mapping, begin, length));
    if (status === 0) return;
    const cause = errnoError(status);
    throw new DeviceError(
      'OUT_OF_MEMORY',
      `rows mapped from ${this.file} cannot be changed: ${cause.message}`,
      {
        cause,
      },
    );
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    this.#live = false;
    library().unmapFile(this.mapping);
  }
}

/** Reads bytes of a file to `target`. @throws FormatError FILE_TRUNCATED; UsageError FILE_*. */
export async function readFileTo(
  target: HostPtr,
  file: string,
  fileOffset: number,
  length: number,
): Promise<void> {
  const status = Number(await inBackground<number>(library().readFile, [file, fileOffset, length, target]));
  if (status === 0) return;
  if (status < 0)
    throw new FormatError('FILE_TRUNCATED', `${file} ends before byte ${fileOffset + length}`, { file });
  throw fileError(file, errnoError(status));
}

/** The error that Node would have thrown for an errno. */
function errnoError(errno: number): NodeJS.ErrnoException {
  const [code, message] = getSystemErrorMap().get(-errno) ?? ['UNKNOWN', `error ${errno}`];
  return Object.assign(new Error(message), { code, errno });
}

/** Rows of a copy that lie apart. */
export interface CopiedRows {
  readonly count: number;
  /** Bytes between the starts of rows. */
  readonly targetStride: number;
  readonly sourceStride: number;
}

/** A copy of host memory. Both places stay, the source unchanged, until it is done; arrays are kept alive until then. */
export interface HostCopy {
  readonly target: HostPtr | ArrayBufferView;
  readonly source: HostPtr | ArrayBufferView;
  /** In all, or of each row. */
  readonly bytes: number;
  /** Default: one. */
  readonly rows?: CopiedRows;
}

const ONE_ROW: CopiedRows = { count: 1, targetStride: 0, sourceStride: 0 };

/** Below this in all, copying at once is faster than handing over to other threads. */
const INLINE_COPY_BYTES = 1 << 18;
/** Threads that copy, at most: a few fill the host's memory bandwidth. */
const MOST_COPY_THREADS = 16;
const COPY_WORDS = 6;

let copiers: ThreadPool | undefined;
/**
 * Does copies of host memory: little at once, more on threads of their own, while the event loop goes on. Undefined: all
 * is done already.
 * @throws DeviceError OUT_OF_MEMORY.
 */
export function copyAll(copies: readonly HostCopy[]): Promise<void> | undefined {
  const bytes = copies.reduce((sum, copy) => sum + copy.bytes * (copy.rows?.count ?? 1), 0);
  if (bytes === 0) return undefined;
  const words = new BigUint64Array(
    new ArrayBuffer(BigUint64Array.BYTES_PER_ELEMENT * COPY_WORDS * copies.length),
  );
  copies.forEach(({ target, source, bytes: length, rows = ONE_ROW }, i) => {
    const sizes = [rows.count, length, rows.targetStride, rows.sourceStride].map(BigInt);
    words.set([addressOfEither(target), addressOfEither(source), ...sizes], COPY_WORDS * i);
  });
  const { copyAll } = library();
  if (bytes <= INLINE_COPY_BYTES) {
    checkRun(Number(copyAll(NULL_PTR, words, copies.length)));
    return undefined;
  }
  copiers ??= createPool(Math.min(MOST_COPY_THREADS, availableParallelism()), 'portable');
  return inBackground<number>(copyAll, [copiers, words, copies.length], copies).then((status) =>
    checkRun(Number(status)),
  );
}

function addressOfEither(memory: HostPtr | ArrayBufferView): HostPtr {
  return typeof memory === 'bigint' ? memory : addressOf(memory);
}
