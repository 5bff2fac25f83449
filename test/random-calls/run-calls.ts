/** Random calls of the public API: most with one or two wrong arguments, some with right ones. */
import type { Backend } from '../../src/backend/backend.ts';
import { HotrowError } from '../../src/index.ts';
import { Random } from '../support/random.ts';
import { type Call, prepareCalls } from './calls.ts';
import { CallbackError, mutated } from './mutate.ts';

export interface CallsRun {
  readonly calls: number;
  /** With right arguments; all of them gave what is right. */
  readonly right: number;
  /** With wrong arguments: what they came to, by code; `value` where they were taken all the same. */
  readonly outcomes: ReadonlyMap<string, number>;
  readonly failures: readonly string[];
}

export interface CallsOptions {
  readonly count: number;
  readonly seed: number;
  /** The number of the first; default: 0. */
  readonly first?: number;
  /** Told of each call before it is made. */
  readonly onCall?: (number: number, name: string) => void;
}

/** A call that takes longer hangs. */
const LONGEST_MS = 20_000;
const RIGHT_SHARE = 0.15;

/** Makes the calls; call `i` follows from the seed and `i` alone. */
export async function runCalls(
  backend: Backend,
  folder: string,
  { count, seed, first = 0, onCall = () => {} }: CallsOptions,
): Promise<CallsRun> {
  const calls = await prepareCalls(backend, folder);
  const outcomes = new Map<string, number>();
  const failures: string[] = [];
  let right = 0;
  for (let i = first; i < first + count; i++) {
    const random = new Random(Math.imul(seed, 0x9e3779b1) + Math.imul(i, 0x85ebca6b));
    const call = random.pick(calls);
    onCall(i, call.name);
    if (random.next() < RIGHT_SHARE) {
      const wrong = await callRight(call, random);
      if (wrong === undefined) right += 1;
      else failures.push(`call ${i} of seed ${seed}, ${call.name}, right arguments: ${wrong}`);
      continue;
    }
    const outcome = await callWrong(call, random);
    outcomes.set(outcome.code, (outcomes.get(outcome.code) ?? 0) + 1);
    if (outcome.failure !== undefined)
      failures.push(`call ${i} of seed ${seed}, ${call.name}: ${outcome.failure}`);
  }
  return { calls: count, right, outcomes, failures };
}

async function callRight({ args, run, check }: Call, random: Random): Promise<string | undefined> {
  try {
    const given = args(random);
    const result = await inTime(() => run(...(given as never[])));
    check?.(result as never, given as never);
    return undefined;
  } catch (error) {
    return describe(error);
  }
}

interface Outcome {
  readonly code: string;
  readonly failure?: string;
}

async function callWrong({ args, run }: Call, random: Random): Promise<Outcome> {
  const given = args(random);
  // One argument, or two.
  const places = given.map((_, at) => at).sort(() => random.next() - 0.5);
  for (const at of places.slice(0, random.next() < 0.8 ? 1 : 2)) given[at] = mutated(given[at], random);
  try {
    await inTime(() => run(...(given as never[])));
    return { code: 'value' };
  } catch (error) {
    if (error instanceof CallbackError) return { code: 'of a callback' };
    if (error instanceof HotrowError && (error.code as string) !== 'INTERNAL') return { code: error.code };
    return { code: 'failure', failure: describe(error) };
  }
}

async function inTime(work: () => unknown): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('it hangs')), LONGEST_MS);
  });
  try {
    return await Promise.race([(async () => work())(), late]);
  } finally {
    clearTimeout(timer);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.stack ?? error.message}` : `threw a ${typeof error}`;
}
