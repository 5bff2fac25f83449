/**
 * Ctrl-C (SIGINT) and SIGTERM. The first gives the command up through one AbortSignal: it gives back what it holds, removes what it
 * has not finished, and ends its compilers, profilers and peers. A second ends the process at once.
 */
import { throwIfAborted } from '../checks/abort.ts';
import { endBySignal } from '../unfinished.ts';

/** Exit codes, as shells give them. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;
type Interrupt = keyof typeof EXIT_CODES;
const INTERRUPTS = Object.keys(EXIT_CODES) as Interrupt[];

/** A command that does not look at its signal, or is within one long step, is not waited for any longer. */
const GRACE_MS = 2000;

const controller = new AbortController();
let first: Interrupt | undefined;
let isPatient = false;
let isEnd = false;

/** Aborted by the first interrupt: of all that a command waits for. */
export const interrupted: AbortSignal = controller.signal;

/** The same, of a command that ends by itself soon after, with what it has by then: nobody hurries it. @throws AbortError where it was interrupted before. */
export function endsWithWhatItHas(): AbortSignal {
  throwIfAborted(interrupted, 'the command');
  isPatient = true;
  return interrupted;
}

/** The same, of a command that runs until it is interrupted: it exits with 0 then. */
export function endsWhenInterrupted(): AbortSignal {
  isEnd = true;
  return endsWithWhatItHas();
}

export function wasInterrupted(): boolean {
  return first !== undefined && !isEnd;
}

/** Ends the process, which was interrupted, with its exit code. Native work that nobody waits for any more is joined: a signal ends that too. */
export function endInterrupted(): never {
  for (const signal of INTERRUPTS) process.removeAllListeners(signal);
  process.exit(EXIT_CODES[first as Interrupt]);
}

/**
 * Runs a command under the interrupts' eyes. Where it does not end in time after the first, the process ends.
 * `end`: ends it.
 */
export async function interruptible(command: () => Promise<unknown>, end: () => void): Promise<void> {
  let grace: NodeJS.Timeout | undefined;
  const listen = (signal: Interrupt) => {
    if (first !== undefined) return endBySignal(signal);
    first = signal;
    grace = setTimeout(() => {
      if (!isPatient) end();
    }, GRACE_MS);
    controller.abort(new Error(signal));
  };
  for (const signal of INTERRUPTS) process.on(signal, listen);
  try {
    await command();
  } finally {
    clearTimeout(grace);
  }
}
