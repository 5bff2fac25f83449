/** Files that are being written: none of them outlives the process, however it ends (SIGKILL aside). */
import { rmSync } from 'node:fs';

/** What ends a process that has no listener of its own. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGXCPU'] as const;

const unfinished = new Set<string>();

/** Has `path` removed if the process ends before `finish`. */
export function begin(path: string): void {
  if (unfinished.size === 0) watch();
  unfinished.add(path);
}

/** Says that `path` is in place, or removed. */
export function finish(path: string): void {
  unfinished.delete(path);
  if (unfinished.size === 0) unwatch();
}

function watch(): void {
  process.on('exit', removeAll);
  for (const signal of SIGNALS) process.on(signal, endBySignal);
}

function unwatch(): void {
  process.off('exit', removeAll);
  for (const signal of SIGNALS) process.off(signal, endBySignal);
}

function removeAll(): void {
  for (const path of unfinished) {
    try {
      rmSync(path, { force: true });
    } catch {
      // The process ends: nobody is left to be told.
    }
  }
}

/** Ends the process as the signal would have done by itself. */
function endBySignal(signal: NodeJS.Signals): void {
  // Where the program listens too, the signal need not be the end; if it is, `exit` follows.
  if (process.listenerCount(signal) > 1) return;
  removeAll();
  unwatch();
  process.kill(process.pid, signal);
}
