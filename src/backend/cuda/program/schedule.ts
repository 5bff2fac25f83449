/** Which stream each operation of a program goes to, and which operations of other streams it waits for. Pure. */
import { at } from '../../../at.ts';
import { type Matrix, type Operation, packedBytes } from '../../backend.ts';
import { overlap } from '../../overlap.ts';

/** A copy of so little is over before one stream has waited for another, or a copy engine for a kernel. */
export const SHORT_COPY_BYTES = 2 ** 16;

export function isShortCopy(bytes: number): boolean {
  return bytes <= SHORT_COPY_BYTES;
}

/**
 * - `copies`: what a program uploads before any dense work, so that it comes over while the batch before is computed; short
 *   copies go with what reads them;
 * - `lookups`: the embedding stage;
 * - `dense`: everything else, so that the bottom MLP runs beside the lookups, and the top MLP beside the next batch's.
 */
export const LANES = ['copies', 'lookups', 'dense'] as const;
export type Lane = (typeof LANES)[number];

export interface Step {
  readonly lane: Lane;
  /** Operations of other lanes that must be done first, at most one a lane. */
  readonly after: readonly number[];
}

export interface Schedule {
  /** One an operation, in their order. */
  readonly steps: readonly Step[];
  /** The lane that is done last … */
  readonly end: Lane;
  /** … once it has waited for these operations of others. */
  readonly joins: readonly number[];
  /** Operations that something waits for. */
  readonly awaited: ReadonlySet<number>;
  /** The place of the first operation that may read staged values; that behind all operations when there is none. */
  readonly firstStaged: number;
}

/** Lanes keep their order; an operation waits for those of other lanes whose memory it shares. */
export function schedule(program: readonly Operation[]): Schedule {
  const uses = program.map(usesOf);
  const lanes = program.map((operation, i) => laneOf(operation, leads(program, uses, i)));
  const steps = lanes.map((lane, i): Step => {
    const after = LANES.flatMap((other) => {
      if (other === lane) return [];
      const last = uses.findLastIndex(
        (earlier, j) => j < i && lanes[j] === other && collide(earlier, at(uses, i)),
      );
      return last < 0 ? [] : [last];
    });
    return { lane, after };
  });
  const end = LANES.findLast((lane) => lanes.includes(lane)) ?? 'dense';
  const joins = LANES.flatMap((other) => {
    const last = lanes.lastIndexOf(other);
    const joined = steps.some(({ lane, after }) => lane === end && after.includes(last));
    return other === end || last < 0 || joined ? [] : [last];
  });
  const awaited = new Set([...steps.flatMap(({ after }) => after), ...joins]);
  const staged = program.findIndex(({ op }) => op === 'upload' || op === 'transfer');
  return { steps, end, joins, awaited, firstStaged: staged < 0 ? program.length : staged };
}

/** Whether only uploads precede an operation, and lookups that it has nothing to do with. */
function leads(program: readonly Operation[], uses: readonly Uses[], place: number): boolean {
  return program.slice(0, place).every(({ op }, i) => {
    return op === 'upload' || (op === 'embeddingBags' && !collide(at(uses, i), at(uses, place)));
  });
}

function laneOf(operation: Operation, leads: boolean): Lane {
  if (operation.op === 'embeddingBags') return 'lookups';
  return operation.op === 'upload' && leads && !isShortCopy(packedBytes(operation.output))
    ? 'copies'
    : 'dense';
}

interface Uses {
  readonly reads: readonly Matrix[];
  readonly writes: readonly Matrix[];
}

function usesOf(operation: Operation): Uses {
  switch (operation.op) {
    case 'upload':
    case 'embeddingBags':
      return { reads: [], writes: [operation.output] };
    case 'download':
      return { reads: [operation.input], writes: [] };
    case 'linear': {
      const { input, output, cross } = operation;
      return { reads: [input, ...(cross === undefined ? [] : [cross.x0, cross.x])], writes: [output] };
    }
    case 'dotInteraction':
    case 'rowFunction':
    case 'copy':
    case 'transfer':
      return { reads: [operation.input], writes: [operation.output] };
    default:
      return operation satisfies never;
  }
}

/** Whether one of two operations writes what the other uses. */
function collide(a: Uses, b: Uses): boolean {
  return meet(a.writes, [...b.reads, ...b.writes]) || meet(a.reads, b.writes);
}

function meet(some: readonly Matrix[], others: readonly Matrix[]): boolean {
  return some.some((one) => others.some((other) => overlap(one, other)));
}
