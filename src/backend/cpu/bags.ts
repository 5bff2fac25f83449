/** Batches of bags as the CPU library reads them. */
import { type ArrayOf, bytesOf, lengthOf } from '../../checks/array.ts';
import type { BagBatch, Bags, EmbeddingTable } from '../../embedding/bag.ts';
import { changedLength, checkOffsetCount } from '../../embedding/check-bags.ts';
import { BAGS_WORDS, SPAN_WORDS } from '../../ffi/cpu-operators.ts';
import { addressOf, type HostPtr } from '../../ffi/host-memory.ts';
import type { PlacedBags } from '../backend.ts';
import { type UserRows, userRows } from '../user-rows.ts';
import { putWord } from '../words.ts';

const WORD_BYTES = 8;

/** Arrays of so few bytes are copied, which takes less than to ask for their address. */
const COPIED_BYTES = 64;

type LookupArray = ArrayOf<'Int32Array' | 'BigInt64Array' | 'Float32Array'>;

/** A batch of bags: the library's `hr_bags`, pointing to copies of small arrays behind them, and into the caller's large ones. */
export class CpuBags implements PlacedBags {
  readonly batchSize: number;
  readonly bags: readonly Bags[];
  readonly lookups: number;
  /** Programs are encoded for each batch. */
  readonly kind = 'any';
  /** Where users' pooled rows go; undefined: no table has a bag per user. */
  readonly users: UserRows | undefined;
  /** The spans of users' rows, as the library's `hr_span`s. */
  readonly spans: BigInt64Array;
  readonly #memory: BagMemory;

  constructor(batch: BagBatch, tables: readonly EmbeddingTable[]) {
    const { batchSize, bags } = batch;
    this.batchSize = batchSize;
    this.bags = bags;
    const users = userRows(batch, tables);
    this.users = users;
    this.spans = encodeSpans(users);
    const memory = new BagMemory(bags);
    this.#memory = memory;
    let lookups = 0;
    let column = 0;
    for (let t = 0; t < bags.length; t++) {
      const { indices, offsets, weights, perUser } = bags[t] as Bags;
      const count = indices.length;
      const offsetCount = offsets.length;
      checkOffsetCount(offsetCount, bags[t] as Bags, t, batch);
      memory.put(t * BAGS_WORDS, [
        memory.of(indices, count),
        memory.of(offsets, offsetCount),
        elementBytes(indices),
        elementBytes(offsets),
        count,
        offsetCount,
        weights === undefined ? 0 : memory.of(weights, count),
        users?.columns[t] ?? column,
        perUser === true ? 1 : 0,
      ]);
      lookups += count;
      column += (tables[t] as EmbeddingTable).dim;
    }
    this.lookups = lookups;
  }

  /** Where the library's `hr_bags` begin. They stay as long as this. */
  get address(): HostPtr {
    return this.#memory.address;
  }

  [Symbol.dispose](): void {}
}

/** The `hr_bags` of some tables, and behind them copies of small arrays. */
class BagMemory {
  readonly address: HostPtr;
  readonly #start: number;
  readonly #words: Int32Array;
  readonly #longs: BigInt64Array;
  #end: number;

  constructor(bags: readonly Bags[]) {
    this.#end = bags.length * BAGS_WORDS;
    let words = this.#end;
    for (const { indices, offsets, weights } of bags) {
      words += copiedWords(indices, indices.length) + copiedWords(offsets, offsets.length);
      if (weights !== undefined) words += copiedWords(weights, weights.length);
    }
    this.#longs = new BigInt64Array(new ArrayBuffer(words * WORD_BYTES));
    this.#words = new Int32Array(this.#longs.buffer);
    this.address = addressOf(this.#longs);
    this.#start = Number(this.address);
  }

  put(at: number, values: readonly number[]): void {
    for (let i = 0; i < values.length; i++) putWord(this.#words, at + i, values[i] as number);
  }

  /** Where the `length` elements of an array lie, once it is copied if it is small. */
  of(array: LookupArray, length: number): number {
    const words = copiedWords(array, length);
    if (words === 0) {
      if (bytesOf(array) !== length * elementBytes(array)) throw changedLength();
      return Number(addressOf(array));
    }
    const at = this.#end;
    this.#end += words;
    if (this.#end > this.#longs.length) throw changedLength();
    this.#copy(array, length, at);
    return this.#start + at * WORD_BYTES;
  }

  /** The engine is asked for the length once more: a property of the array may have said anything. */
  #copy(array: LookupArray, length: number, at: number): void {
    if (array instanceof BigInt64Array) {
      if (lengthOf(array) !== length) throw changedLength();
      for (let i = 0; i < length; i++) this.#longs[at + i] = array[i] as bigint;
    } else if (array instanceof Int32Array) {
      if (lengthOf(array) !== length) throw changedLength();
      for (let i = 0; i < length; i++) this.#words[2 * at + i] = array[i] as number;
    } else {
      if (lengthOf(array) !== length) throw changedLength();
      new Float32Array(this.#longs.buffer, at * WORD_BYTES, length).set(array);
    }
  }
}

function elementBytes(array: LookupArray): number {
  return array instanceof BigInt64Array ? 8 : 4;
}

/** Words that a copy of `length` elements takes; 0: they are not copied. */
function copiedWords(array: LookupArray, length: number): number {
  const bytes = length * elementBytes(array);
  return bytes > COPIED_BYTES ? 0 : Math.ceil(bytes / WORD_BYTES);
}

function encodeSpans(users: UserRows | undefined): BigInt64Array {
  const spans = users?.spans ?? [];
  const words = new BigInt64Array(spans.length * SPAN_WORDS);
  spans.forEach(({ from, to, columns }, s) => {
    words.set([BigInt(from), BigInt(to), BigInt(columns)], s * SPAN_WORDS);
  });
  return words;
}
