/**
 * A sample of a server's traffic, as a folder of requests in safetensors, which `--trace` of `tune` and `bench` takes.
 *
 * Every n-th request is a candidate. While there is room, each is kept; then the i-th takes the place of random ones with a
 * probability of (how many fitted) / i, so that what is there is a sample of all that came since the start. Requests are written one by
 * one, whole or not at all, and removed before others take their place: the folder is never above its bound.
 */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { at } from '../../at.ts';
import { membersOf, optional, path, whole } from '../../checks/value.ts';
import { unwritable } from '../../errors.ts';
import { listFolder } from '../../input-file.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import { readRequest, writeRequest } from '../../model/request/safetensors-request.ts';
import { makeFolder } from '../../output-file.ts';
import { type BagForm, copyOf, formOf, inForm } from './one-form.ts';

export interface TrafficRecorderOptions {
  /** Made if it is not there; else it is empty, or holds what was recorded of the same model before. */
  readonly folder: string;
  /** One request of so many is a candidate. Default 100. */
  readonly every?: number;
  /** Bytes of the folder's files at most. Default 256 MiB. */
  readonly diskBytes?: number;
  /** Bytes of requests that wait to be written at most; more are passed over. Default 32 MiB. */
  readonly memoryBytes?: number;
}

/** What was recorded until now. */
export interface Recorded {
  /** Requests that came. */
  readonly offered: number;
  /** Requests in the folder, and their bytes. */
  readonly files: number;
  readonly bytes: number;
  /** Candidates that were too large, or came while too much waited. */
  readonly passedOver: number;
}

interface KeptFile {
  readonly file: string;
  readonly bytes: number;
}

interface PendingRequest {
  readonly request: DlrmRequest;
  readonly bytes: number;
}

const MEBI = 2 ** 20;
const MOST_BYTES = 2 ** 40;
const NAME = /^request-(\d{8,})\.safetensors$/;
/** What a process that was killed left behind. */
const UNFINISHED = /^request-\d{8,}\.safetensors\.[0-9a-f]+\.partial$/;
/** Of a file's header, for each tensor, at most. */
const TENSOR_BYTES = 160;
/** The most of the folder that one request may take. */
const LARGEST_SHARE = 1 / 4;

const OPTIONS = membersOf<TrafficRecorderOptions>({
  folder: path,
  every: optional(whole(1)),
  diskBytes: optional(whole(1, MOST_BYTES)),
  memoryBytes: optional(whole(1, MOST_BYTES)),
});

export class TrafficRecorder {
  readonly #folder: string;
  readonly #every: number;
  readonly #diskBytes: number;
  readonly #memoryBytes: number;
  readonly #random: () => number;
  readonly #files: KeptFile[];
  readonly #pending: PendingRequest[] = [];
  #form: BagForm | undefined;
  #number: number;
  #fileBytes: number;
  #pendingBytes = 0;
  #offered = 0;
  #candidates: number;
  #passedOver = 0;
  /** How many requests fitted when the folder was full for the first time. */
  #fitted: number | undefined;
  #writing: Promise<void> | undefined;
  #failure: unknown;
  #isClosed = false;

  private constructor(
    { folder, every = 100, diskBytes = 256 * MEBI, memoryBytes = 32 * MEBI }: TrafficRecorderOptions,
    found: { readonly files: readonly KeptFile[]; readonly form?: BagForm; readonly number: number },
    random: () => number,
  ) {
    this.#folder = folder;
    this.#every = every;
    this.#diskBytes = diskBytes;
    this.#memoryBytes = memoryBytes;
    this.#random = random;
    this.#files = [...found.files];
    this.#form = found.form;
    this.#number = found.number;
    this.#fileBytes = found.files.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#candidates = found.files.length;
  }

  /**
   * `model`: whose requests are to be recorded. `random`: numbers in [0, 1).
   * @throws UsageError OPTION_INVALID; FILE_UNWRITABLE where the folder cannot be made, or holds something else.
   */
  static async open(
    given: TrafficRecorderOptions,
    model: { readonly tables: number; readonly denseFeatures: number },
    random: () => number = Math.random,
  ): Promise<TrafficRecorder> {
    const options = OPTIONS(given, 'TrafficRecorder');
    return new TrafficRecorder(options, await prepared(options.folder, model), random);
  }

  get recorded(): Recorded {
    return {
      offered: this.#offered,
      files: this.#files.length,
      bytes: this.#fileBytes,
      passedOver: this.#passedOver,
    };
  }

  /** Why nothing is recorded any more. */
  get failure(): unknown {
    return this.#failure;
  }

  /** A request that ran. What is kept of it is copied before this returns; nothing fails here. */
  offer(request: DlrmRequest): void {
    if (this.#isClosed || this.#failure !== undefined) return;
    this.#offered++;
    if (this.#offered % this.#every !== 0 || request.batchSize === 0) return;
    this.#candidates++;
    if (this.#fitted !== undefined && this.#random() * this.#candidates >= this.#fitted) return;
    // What fits is known before anything is copied.
    if (!this.#hasRoom(bytesOf(request))) return;
    this.#form ??= formOf(request);
    const own = inForm(request, this.#form);
    const bytes = bytesOf(own);
    if (own !== request && !this.#hasRoom(bytes)) return;
    if (this.#fileBytes + this.#pendingBytes + bytes > this.#diskBytes)
      this.#fitted ??= this.#files.length + this.#pending.length;
    this.#pending.push({ request: copyOf(own), bytes });
    this.#pendingBytes += bytes;
    this.#writing ??= this.#write();
  }

  /** Resolves when all that was kept until now is in the folder. @throws UsageError FILE_UNWRITABLE. */
  async flush(): Promise<void> {
    await this.#writing;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Keeps nothing more, and writes what waits. @throws as `flush`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.flush();
  }

  #hasRoom(bytes: number): boolean {
    const fits = bytes <= this.#diskBytes * LARGEST_SHARE && this.#pendingBytes + bytes <= this.#memoryBytes;
    if (!fits) this.#passedOver++;
    return fits;
  }

  async #write(): Promise<void> {
    try {
      for (;;) {
        const [next] = this.#pending;
        if (next === undefined) break;
        await this.#makeRoom(next.bytes);
        const name = `request-${String(this.#number++).padStart(8, '0')}.safetensors`;
        const file = join(this.#folder, name);
        await writeRequest(file, next.request);
        this.#files.push({ file, bytes: next.bytes });
        this.#fileBytes += next.bytes;
        this.#pending.shift();
        this.#pendingBytes -= next.bytes;
      }
    } catch (error) {
      this.#failure = error;
      this.#pending.length = 0;
      this.#pendingBytes = 0;
    } finally {
      this.#writing = undefined;
    }
  }

  /** Removes files at random until so many bytes fit. */
  async #makeRoom(bytes: number): Promise<void> {
    while (this.#files.length > 0 && this.#fileBytes + bytes > this.#diskBytes) {
      const place = Math.floor(this.#random() * this.#files.length);
      const kept = at(this.#files, place);
      await rm(kept.file, { force: true });
      this.#files[place] = at(this.#files, this.#files.length - 1);
      this.#files.pop();
      this.#fileBytes -= kept.bytes;
    }
  }
}

/** Makes the folder, or finds what was recorded there before. */
async function prepared(folder: string, model: { readonly tables: number; readonly denseFeatures: number }) {
  const refuse = (why: string): never => {
    throw unwritable(folder, undefined, { why, hint: 'name a new folder to record traffic in' });
  };
  // Ids of users are nobody else's business.
  await makeFolder(folder, 0o700).catch((cause) => {
    throw unwritable(folder, cause);
  });
  const files: KeptFile[] = [];
  let number = 1;
  for (const { name } of await listFolder(folder)) {
    const file = join(folder, name);
    if (UNFINISHED.test(name)) {
      await rm(file, { force: true });
      continue;
    }
    const match = NAME.exec(name);
    if (match === null) return refuse(`it holds ${name}, which was not recorded`);
    number = Math.max(number, Number(match[1]) + 1);
    files.push({ file, bytes: (await stat(file)).size });
  }
  const [first] = files;
  if (first === undefined) return { files, number };
  const { bags, denseFeatures } = await readRequest(first.file);
  if (bags.length !== model.tables || denseFeatures !== model.denseFeatures)
    return refuse(
      `it holds traffic of another model: ${bags.length} tables, ${denseFeatures} dense features`,
    );
  return { files, number, form: formOf({ bags }) };
}

/** Of a request's file, at most. */
function bytesOf({ dense, bags, users }: DlrmRequest): number {
  let bytes = dense.byteLength + (users?.byteLength ?? 0) + 3 * TENSOR_BYTES;
  for (const { indices, offsets, weights } of bags)
    bytes += indices.byteLength + offsets.byteLength + (weights?.byteLength ?? 0) + 3 * TENSOR_BYTES;
  return bytes;
}
