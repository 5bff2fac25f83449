/** What a long command is at: on a terminal a line that is rewritten in place, elsewhere a line every few seconds. */
import { printable } from '../text.ts';

/** The part of a stream that progress is written to. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  /** Of a terminal. */
  readonly columns?: number;
  write(text: string): unknown;
}

export interface Clock {
  /** ms since any moment. */
  now(): number;
  /** Calls `work` again and again, until what it returns is called. Keeps no process alive. */
  every(ms: number, work: () => void): () => void;
}

/** Time between lines where there is no terminal. */
export const LINE_MS = 5000;
/** Time between rewritings of a terminal's line for another step of the same work. */
const REWRITE_MS = 100;
const USUAL_COLUMNS = 80;
const ERASE = '\r\x1b[2K';

interface State {
  readonly what: string;
  readonly steps: string;
}

export class ProgressLine {
  readonly #stream: ProgressStream;
  readonly #clock: Clock;
  #state: State | undefined;
  /** When the first work began, and when something was last written. */
  #beganMs = 0;
  #writtenMs = 0;
  #shown = false;
  #stopTicking: (() => void) | undefined;

  constructor(stream: ProgressStream, clock: Clock) {
    this.#stream = stream;
    this.#clock = clock;
  }

  /** What is under way from now on, at step `n` of `of` where there are steps. */
  report(what: string, n?: number, of?: number): void {
    const now = this.#clock.now();
    const last = this.#state;
    const steps = n === undefined ? '' : `: ${count(n)}${of === undefined ? '' : ` of ${count(of)}`}`;
    this.#state = { what: printable(what), steps };
    if (last === undefined) this.#begin(now);
    const isNew = last?.what !== this.#state.what || !this.#shown;
    if (this.#stream.isTTY === true) {
      if (isNew || now - this.#writtenMs >= REWRITE_MS) this.#rewrite();
    } else {
      this.#writeIfDue();
    }
  }

  /** Nothing is under way any more. */
  end(): void {
    this.#state = undefined;
    this.#stopTicking?.();
    this.#stopTicking = undefined;
    this.erase();
  }

  /** Takes the line off a terminal, so that others can be written; the next step shows it again. */
  erase(): void {
    if (this.#shown) this.#stream.write(ERASE);
    this.#shown = false;
  }

  #begin(now: number): void {
    this.#beganMs = now;
    this.#writtenMs = now;
    // Work may take longer than that without a step.
    if (this.#stream.isTTY !== true) this.#stopTicking = this.#clock.every(LINE_MS, () => this.#writeIfDue());
  }

  #rewrite(): void {
    const { what, steps } = this.#state as State;
    const width = (this.#stream.columns || USUAL_COLUMNS) - 1;
    this.#stream.write(`${ERASE}${cut(what, width - steps.length)}${steps}`);
    this.#writtenMs = this.#clock.now();
    this.#shown = true;
  }

  #writeIfDue(): void {
    const now = this.#clock.now();
    if (this.#state === undefined || now - this.#writtenMs < LINE_MS) return;
    const seconds = Math.round((now - this.#beganMs) / 1e3);
    this.#stream.write(`${this.#state.what}${this.#state.steps} (${seconds} s)\n`);
    this.#writtenMs = now;
  }
}

function count(steps: number): string {
  return steps.toLocaleString('en-US');
}

/** At most `width` characters; the end gives way. */
function cut(text: string, width: number): string {
  const characters = [...text];
  if (characters.length <= width) return text;
  return `${characters.slice(0, Math.max(0, width - 1)).join('')}…`;
}

/** The time of this machine. */
export const MACHINE_CLOCK: Clock = {
  now: () => performance.now(),
  every: (ms, work) => {
    const timer = setInterval(work, ms);
    timer.unref();
    return () => clearInterval(timer);
  },
};
