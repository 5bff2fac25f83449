/**
 * What must not outlive the process, however it ends (SIGKILL aside): files and folders that are being written, and programs that
 * it started.
 */
import type { ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';

/** What ends a process that has no listener of its own. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGXCPU'] as const;

/** By what they are of: how to be rid of each at once. */
const unfinished = new Map<string | ChildProcess, () => void>();

/** Has a file or a folder removed if the process ends before `finish`. */
export function begin(path: string): void {
  add(path, () => rmSync(path, { recursive: true, force: true }));
}

/** Says that `path` is in place, or removed. */
export function finish(path: string): void {
  remove(path);
}

/** Has a program, and with `group` all of the process group that it leads, ended if the process ends before it. */
export function endWithProcess(child: ChildProcess, { group }: { readonly group: boolean }): void {
  add(child, () => endProgram(child, { group }));
  child.once('close', () => remove(child));
  child.once('error', () => {
    if (child.pid === undefined) remove(child);
  });
}

/** Ends a program at once, and with `group` all of the process group that it leads. */
export function endProgram(child: ChildProcess, { group }: { readonly group: boolean }): void {
  const { pid, exitCode, signalCode } = child;
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
  try {
    process.kill(group ? -pid : pid, 'SIGKILL');
  } catch (error) {
    // All of it has ended meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Ends the process as the signal would have done by itself, and what must not outlive it. */
export function endBySignal(signal: NodeJS.Signals): void {
  removeAll();
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}

function add(what: string | ChildProcess, end: () => void): void {
  if (unfinished.size === 0) watch();
  unfinished.set(what, end);
}

function remove(what: string | ChildProcess): void {
  if (unfinished.delete(what) && unfinished.size === 0) unwatch();
}

function watch(): void {
  process.on('exit', removeAll);
  for (const signal of SIGNALS) process.on(signal, onSignal);
}

function unwatch(): void {
  process.off('exit', removeAll);
  for (const signal of SIGNALS) process.off(signal, onSignal);
}

/** Programs first: they may be writing where folders are removed. */
function removeAll(): void {
  const ends = [...unfinished].toSorted(
    ([a], [b]) => Number(typeof a === 'string') - Number(typeof b === 'string'),
  );
  for (const [, end] of ends) {
    try {
      end();
    } catch {
      // The process ends: nobody is left to be told.
    }
  }
}

function onSignal(signal: NodeJS.Signals): void {
  // Where the program listens too, the signal need not be the end; if it is, `exit` follows.
  if (process.listenerCount(signal) === 1) endBySignal(signal);
}
