/** Lookups of seeded streams, drawn by all cores. */
import { availableParallelism } from 'node:os';
import { addressOf, NULL_PTR } from './host-memory.ts';
import { checkRun, library } from './native-library.ts';
import { createPool, destroyPool, type ThreadPool } from './thread-pool.ts';

/** How popular the rows of a table are, as `HR_POPULARITY_…` of kernels/cpu/hotrow_cpu.h says. */
export type Popularity =
  | { readonly kind: 'oneRow' | 'uniform' }
  | {
      readonly kind: 'logUniform';
      /** Rows that are ever looked up. */
      readonly touched: number;
    }
  | {
      readonly kind: 'strata';
      /** [strata], the strata's shares of the lookups, summed up. */
      readonly limits: Float64Array;
      /** [strata + 1], where strata begin among the rows, from 0 on, in any unit. */
      readonly bounds: Float64Array;
    };

const POPULARITY = { oneRow: 0, uniform: 1, logUniform: 2, strata: 3 } as const;

/** The next lookups of a stream. */
export interface LookupDraw {
  /** Receives them. */
  readonly indices: BigInt64Array;
  /** Of the generator of workload/random.ts, whose first `skipped` numbers are another's; then a lookup takes two. */
  readonly seed: number;
  readonly skipped: number;
  /** Lookups of the stream before these. */
  readonly first: number;
  /** The row of rank r is (r · step + start) mod rows. */
  readonly rows: number;
  readonly step: number;
  readonly start: number;
  readonly popularity: Popularity;
}

/** 64-bit words of `hr_draw`. */
const WORDS = 13;

let everyCore: ThreadPool | undefined;

/** Ends the pool of all cores, until something is drawn again. */
export function endDrawing(): void {
  if (everyCore !== undefined) destroyPool(everyCore);
  everyCore = undefined;
}

/**
 * Fills the indices of all draws. What is drawn does not depend on threads. `pool`: default: one of all cores.
 * @throws DeviceError KERNEL_FAILED for arguments out of range.
 */
export function drawLookups(draws: readonly LookupDraw[], pool?: ThreadPool): void {
  everyCore ??= createPool(availableParallelism(), 'portable');
  const words = new BigInt64Array(new ArrayBuffer(draws.length * WORDS * BigInt64Array.BYTES_PER_ELEMENT));
  draws.forEach((draw, d) => {
    words.set(encoded(draw), WORDS * d);
  });
  checkRun(Number(library().drawLookups(pool ?? everyCore, words, draws.length)));
}

function encoded(draw: LookupDraw): bigint[] {
  const { indices, popularity } = draw;
  const strata = popularity.kind === 'strata' ? popularity : undefined;
  return [
    addressOf(indices),
    ...[indices.length, draw.seed, draw.skipped, draw.first, draw.rows, draw.step, draw.start].map(BigInt),
    BigInt(POPULARITY[popularity.kind]),
    popularity.kind === 'logUniform' ? BigInt(popularity.touched) : 0n,
    BigInt(strata?.limits.length ?? 0),
    strata === undefined ? NULL_PTR : addressOf(strata.limits),
    strata === undefined ? NULL_PTR : addressOf(strata.bounds),
  ];
}
