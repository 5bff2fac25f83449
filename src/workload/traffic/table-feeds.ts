/** Batches of what feeds each table: a recorded stream, recorded bags, or an access pattern. */
import { at } from '../../at.ts';
import type { BagBatch, Bags } from '../../embedding/bag.ts';
import { type AccessPatternName, createStream } from '../access-patterns.ts';
import { bagOffsets, drawBagLengths, parseTableBagLengths, totalLookups } from '../bag-lengths.ts';
import { createRandom } from '../random.ts';

/** What a table looks up. */
export type TableFeed =
  | { readonly kind: 'stream'; readonly stream: Stream }
  | {
      readonly kind: 'pattern';
      readonly rows: number;
      readonly pattern: AccessPatternName;
      /** Whose recorded bags it has the lengths of. */
      readonly like?: Stream;
    };

/** Recorded lookups. Tables with the same stream take from it in turns. */
export interface Stream {
  /** Where they come from, for people. */
  readonly file: string;
  readonly indices: Int32Array;
  /** [bags + 1], where recorded bags start in `indices`, and the end of the last; undefined: bags have drawn lengths. */
  readonly starts?: Float64Array;
}

export interface FeedShape {
  readonly batchSize: number;
  /** As parseTableBagLengths takes them; for tables without recorded bags. */
  readonly bagLengths: string;
  readonly seed: number;
  readonly batches: number;
}

/**
 * Batches, table by table, batch by batch; a stream begins again at its end, of which the notes tell where that is within a
 * table's part of a batch. int64 indices and offsets [B].
 * @throws UsageError USAGE for bag lengths.
 */
export function feedBatches(
  feeds: readonly TableFeed[],
  { batchSize, bagLengths, seed, batches }: FeedShape,
): { readonly batches: BagBatch[]; readonly notes: string[] } {
  const lengths = parseTableBagLengths(bagLengths, feeds.length);
  const random = createRandom(seed);
  const cursors = new Map<Stream, Cursor>();
  const cursorOf = (stream: Stream) => {
    const cursor = cursors.get(stream) ?? new Cursor(stream);
    cursors.set(stream, cursor);
    return cursor;
  };
  const patterns = new Map<TableFeed, (count: number) => BigInt64Array>();
  const wrapped = new Map<string, string>();
  const bagsOf = (feed: TableFeed, t: number): Bags => {
    const stream = feed.kind === 'stream' ? feed.stream : feed.like;
    const own =
      stream?.starts === undefined
        ? drawBagLengths(at(lengths, t), batchSize, random)
        : cursorOf(stream).nextLengths(batchSize);
    const count = totalLookups(own);
    const offsets = bagOffsets(own);
    if (feed.kind === 'stream') {
      const note = wrapNote(feed.stream, batchSize, count);
      if (note !== undefined) wrapped.set(feed.stream.file, note);
      return { indices: cursorOf(feed.stream).next(count), offsets };
    }
    const { pattern, rows } = feed;
    const next = patterns.get(feed) ?? createStream(pattern, { rows, seed: seed + 1 + t });
    patterns.set(feed, next);
    return { indices: next(count), offsets };
  };
  const made = Array.from({ length: batches }, () => ({ batchSize, bags: feeds.map(bagsOf) }));
  return { batches: made, notes: [...wrapped.values()] };
}

/** Says that a table's part of a batch has lookups twice; undefined: it has not. */
function wrapNote({ file, indices, starts }: Stream, bags: number, lookups: number): string | undefined {
  const [have, need, what] =
    starts === undefined ? [indices.length, lookups, 'lookups'] : [starts.length - 1, bags, 'bags'];
  if (have >= need) return undefined;
  const count = (number: number) => number.toLocaleString('en-US');
  return `${file}: ${count(have)} ${what} are fewer than the ${count(need)} that a table has in a batch: they come again within a batch, which makes rows look hotter than they are`;
}

/** Lookups of each table in a batch, about: of one draw of the lengths. @throws UsageError USAGE. */
export function lookupsNeeded(
  tables: number,
  { batchSize, bagLengths, seed }: Omit<FeedShape, 'batches'>,
): number[] {
  const random = createRandom(seed);
  return parseTableBagLengths(bagLengths, tables).map((lengths) =>
    totalLookups(drawBagLengths(lengths, batchSize, random)),
  );
}

/** A position in a stream. */
class Cursor {
  readonly #stream: Stream;
  #at = 0;
  #bag = 0;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** The lengths of the next recorded bags. */
  nextLengths(bags: number): Int32Array {
    const { starts = new Float64Array(1) } = this.#stream;
    return Int32Array.from({ length: bags }, () => {
      const bag = this.#bag;
      this.#bag = (bag + 1) % (starts.length - 1);
      return (starts[bag + 1] as number) - (starts[bag] as number);
    });
  }

  /** The next lookups. */
  next(count: number): BigInt64Array {
    const { indices } = this.#stream;
    const taken = new BigInt64Array(count);
    // Rows stay below 2^31, so that the low halves are the values.
    const halves = new Int32Array(taken.buffer);
    for (let i = 0; i < count; i++) {
      halves[2 * i] = indices[this.#at++] as number;
      if (this.#at === indices.length) this.#at = 0;
    }
    return taken;
  }
}
