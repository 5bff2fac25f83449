/** Programs that are run to their end: compilers, profilers. */
import { spawn } from 'node:child_process';
import { endProgram, endWithProcess } from './unfinished.ts';

export interface ProgramEnd {
  /** Null: a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program in a process group of its own: what it starts ends with it, and a terminal's interrupt is ours alone. It ends with
 * this process at the latest; `signal` ends it at once.
 * @throws Error of the system where it cannot be started.
 */
export function runProgram(
  program: string,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<ProgramEnd> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    endWithProcess(child, { group: true });
    const end = () => endProgram(child, { group: true });
    signal?.addEventListener('abort', end);
    if (signal?.aborted) end();
    const printed = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        printed[name] += text;
      });
    }
    child.once('error', reject);
    child.once('close', (code) => {
      signal?.removeEventListener('abort', end);
      resolve({ code, ...printed });
    });
  });
}
