/**
 * Request records (kernels/cpu/hotrow_cpu.h), checked and merged by native code. What is written here is memory of the calling thread;
 * records are reached by their addresses.
 */
import { DeviceError } from '../errors.ts';
import { addressOf, type HostPtr, NULL_PTR } from './host-memory.ts';
import { library } from './native-library.ts';
import type { ThreadPool } from './thread-pool.ts';

/** What records have of a table. */
export interface RecordTableShape {
  readonly rows: number;
  /** Index −1 stands for a pruned row. */
  readonly pruned: boolean;
  /** Bags may bring weights. */
  readonly takesWeights: boolean;
}

/** 64-bit words of the library's structs. */
const TABLE_WORDS = 3;
const MODEL_WORDS = 3;
const FAULT_WORDS = 5;
const MERGED_TABLE_WORDS = 6;
const MERGED_BATCH_WORDS = 5;

/** What is wrong with a record, in the order of `HR_REQUEST_…`, from 1 on. */
const FAULT_KINDS = [
  'bad-header',
  'index-out-of-range',
  'first-offset-not-zero',
  'offsets-decrease',
  'offset-past-end',
  'length-out-of-range',
  'lengths-sum',
  'piece-sum',
  'uneven',
  'weights-unexpected',
  'first-user-not-zero',
  'users-decrease',
  'users-end',
] as const;

/** The library's `hr_request_fault`. */
export interface RecordFault {
  readonly kind: (typeof FAULT_KINDS)[number];
  /** −1: none. */
  readonly table: number;
  /** −1: none. */
  readonly position: number;
  readonly value: bigint;
  readonly limit: bigint;
}

/** 64-bit words at an address that stays, since they lie outside the JavaScript heap. */
class Words {
  readonly words: BigInt64Array;
  readonly address: HostPtr;
  /** The same words as halves, low ones first. */
  readonly #halves: Uint32Array;

  constructor(count: number) {
    const buffer = new ArrayBuffer(Math.max(count, 1) * BigInt64Array.BYTES_PER_ELEMENT);
    this.words = new BigInt64Array(buffer);
    this.#halves = new Uint32Array(buffer);
    this.address = addressOf(this.words);
  }

  /** A word as a number of at most 2^53 in size, without making a BigInt. */
  number(at: number): number {
    return ((this.#halves[2 * at + 1] as number) | 0) * 2 ** 32 + (this.#halves[2 * at] as number);
  }
}

/** The library's `hr_request_model`, and what calls about its records write: for one thread. */
export class NativeRecordModel {
  readonly tableCount: number;
  readonly #tables: Words;
  readonly #model: Words;
  readonly #fault = new Words(FAULT_WORDS);

  constructor(tables: readonly RecordTableShape[], denseFeatures: number) {
    this.tableCount = tables.length;
    this.#tables = new Words(TABLE_WORDS * tables.length);
    tables.forEach(({ rows, pruned, takesWeights }, t) => {
      this.#tables.words.set([BigInt(rows), BigInt(pruned), BigInt(takesWeights)], TABLE_WORDS * t);
    });
    this.#model = new Words(MODEL_WORDS);
    this.#model.words.set([this.#tables.address, BigInt(tables.length), BigInt(denseFeatures)]);
  }

  get address(): HostPtr {
    return this.#model.address;
  }

  /**
   * Checks the record in a slot of `bytes` bytes, whatever is in them; the first thing that is wrong, undefined: nothing. Its header
   * is written (see the library's `hr_check_request`).
   * @throws DeviceError KERNEL_FAILED for a slot that is shorter than a header, or 4 GiB or longer.
   */
  check(slot: HostPtr, bytes: number): RecordFault | undefined {
    const fault = this.#fault;
    const status = Number(library().checkRequest(this.address, slot, bytes, fault.address));
    if (status === 0) return undefined;
    if (status < 0)
      throw new DeviceError(
        'KERNEL_FAILED',
        `the CPU library refused a slot of ${bytes} bytes for a request`,
      );
    return {
      kind: FAULT_KINDS[fault.number(0) - 1] as RecordFault['kind'],
      table: fault.number(1),
      position: fault.number(2),
      value: fault.words[3] as bigint,
      limit: fault.words[4] as bigint,
    };
  }
}

/** `hr_merge_requests`: what it returns. */
export type MergeStatus = 'done' | 'no-room' | 'not-checked' | 'too-large';
const MERGE_STATUSES: readonly MergeStatus[] = ['done', 'no-room', 'not-checked', 'too-large'];

/** Records that are merged, and where the parts of the batch lie in its block: for one thread, used from batch to batch. */
export class RequestMerge {
  readonly #model: NativeRecordModel;
  readonly #pool: bigint;
  readonly #batch = new Words(MERGED_BATCH_WORDS);
  readonly #tables: Words;
  #slots = new BigUint64Array(0);
  #starts = new Int32Array(0);
  #slotsAddress = NULL_PTR;
  #startsAddress = NULL_PTR;

  /** Threads of `pool` share large batches. */
  constructor(model: NativeRecordModel, pool?: ThreadPool) {
    this.#model = model;
    this.#pool = pool ?? NULL_PTR;
    this.#tables = new Words(MERGED_TABLE_WORDS * model.tableCount);
  }

  /**
   * Merges checked records, in their order, into a block of so many bytes, aligned to 16.
   * @throws DeviceError KERNEL_FAILED for a block that is not.
   */
  run(slots: readonly HostPtr[], block: HostPtr, blockBytes: number): MergeStatus {
    const count = slots.length;
    if (count > this.#slots.length || this.#startsAddress === NULL_PTR) this.#grow(Math.max(16, 2 * count));
    for (let r = 0; r < count; r++) this.#slots[r] = slots[r] as HostPtr;
    const status = Number(
      library().mergeRequests(
        this.#pool,
        this.#model.address,
        this.#slotsAddress,
        count,
        block,
        blockBytes,
        this.#batch.address,
        this.#tables.address,
        this.#startsAddress,
      ),
    );
    const known = MERGE_STATUSES[status];
    if (known === undefined)
      throw new DeviceError('KERNEL_FAILED', `the CPU library refused to merge requests (status ${status})`);
    return known;
  }

  /** Bytes of the block. These and all below: of the last merge that was done or had no room. */
  get bytes(): number {
    return this.#batch.number(0);
  }
  /** B. */
  get samples(): number {
    return this.#batch.number(1);
  }
  /** U; 0: no table has a bag per user. */
  get users(): number {
    return this.#batch.number(2);
  }
  /** Where int32 [U + 1] begin in the block. */
  get usersAt(): number {
    return this.#batch.number(3);
  }
  /** Where float32 [B, F] begin. */
  get denseAt(): number {
    return this.#batch.number(4);
  }

  /** Where the indices of a table begin. */
  indicesAt(t: number): number {
    return this.#tables.number(MERGED_TABLE_WORDS * t);
  }
  lookups(t: number): number {
    return this.#tables.number(MERGED_TABLE_WORDS * t + 1);
  }
  /** Where int32 [bags + 1] begin. */
  offsetsAt(t: number): number {
    return this.#tables.number(MERGED_TABLE_WORDS * t + 2);
  }
  bags(t: number): number {
    return this.#tables.number(MERGED_TABLE_WORDS * t + 3);
  }
  /** Where float32 [lookups] begin; −1: there are none. */
  weightsAt(t: number): number {
    return this.#tables.number(MERGED_TABLE_WORDS * t + 4);
  }
  isPerUser(t: number): boolean {
    return this.#tables.number(MERGED_TABLE_WORDS * t + 5) === 1;
  }

  /** [count + 1], a copy: record r is the samples [starts[r], starts[r + 1]). */
  starts(count: number): Int32Array {
    return this.#starts.slice(0, count + 1);
  }

  #grow(count: number): void {
    this.#slots = new BigUint64Array(new ArrayBuffer(count * BigUint64Array.BYTES_PER_ELEMENT));
    this.#starts = new Int32Array(new ArrayBuffer((count + 1) * Int32Array.BYTES_PER_ELEMENT));
    this.#slotsAddress = addressOf(this.#slots);
    this.#startsAddress = addressOf(this.#starts);
  }
}

/** Whether indices of a merged batch are int64. */
export function hasWideIndices(rows: number): boolean {
  return rows > 2 ** 31 - 1;
}
