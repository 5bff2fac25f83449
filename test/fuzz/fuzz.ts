/**
 * Fuzzing of what reads files: valid files are changed, and each must be read or refused by a HotrowError, in bounded time and
 * memory. A watchdog sees what never ends. Case n of a seed is the same on every machine.
 */
import { fork } from 'node:child_process';
import { bundledProgram } from '../support/bundled-program.ts';

export interface FuzzTask {
  readonly families: readonly string[];
  /** Number of the first case of each. */
  readonly first: number;
  readonly count: number;
  readonly seed: number;
  /** Where files are written; default: the temporary folder. */
  readonly folder?: string;
}

export type FuzzMessage =
  | ({ readonly kind: 'began' } & FuzzCase)
  | ({ readonly kind: 'failed' } & FuzzFailure)
  | { readonly kind: 'done'; readonly outcomes: FuzzResult['outcomes'] };

export interface FuzzCase {
  readonly family: string;
  readonly number: number;
  /** The folder with its files, which stays where it fails. */
  readonly path: string;
}

/** A case that is neither read nor refused. */
export interface FuzzFailure extends FuzzCase {
  readonly what: string;
}

export interface FuzzResult {
  /** How many cases of each family were read, or refused by each code. */
  readonly outcomes: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly failure?: FuzzFailure;
}

/** For a case that never ends; a small file takes some milliseconds, and no machine is so busy. */
const MAX_CASE_MS = 120_000;

let bundled: Promise<string> | undefined;

/** Runs cases until one fails. */
export async function fuzz(task: FuzzTask): Promise<FuzzResult> {
  bundled ??= bundledProgram(new URL('cases.ts', import.meta.url));
  const program = await bundled;
  return new Promise((resolve) => {
    const child = fork(program, [JSON.stringify(task)], { execArgv: ['--max-old-space-size=1024'] });
    let last: FuzzCase = { family: '', number: task.first, path: '' };
    let beganMs = Date.now();
    const end = (result: FuzzResult) => {
      clearInterval(watchdog);
      child.kill('SIGKILL');
      resolve(result);
    };
    const fail = (what: string) => end({ outcomes: {}, failure: { ...last, what } });
    const watchdog = setInterval(() => {
      if (Date.now() - beganMs > MAX_CASE_MS) fail(`it takes more than ${MAX_CASE_MS} ms`);
    }, 1000);
    child.on('message', (received) => {
      const message = received as FuzzMessage;
      beganMs = Date.now();
      if (message.kind === 'began') last = message;
      else if (message.kind === 'failed') fail(message.what);
      else end({ outcomes: message.outcomes });
    });
    child.on('exit', (code, signal) => fail(`the process ended: ${signal ?? `exit code ${code}`}`));
  });
}
