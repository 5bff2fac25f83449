/** How far a program has come: events behind what it has put into its streams, and the wait for its end. */
import type { CudaEvent } from '../../../cuda/event.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { BorrowedEvents } from './timers.ts';

export interface Progress {
  /** Operations that something waits for, by their place. */
  readonly done: Map<number, CudaEvent>;
  /** Totals of findings on their way to the host. */
  readonly totals: CudaEvent[];
}

export const noProgress = (): Progress => ({ done: new Map(), totals: [] });

/** Where an operation's time is taken. */
export interface Span {
  readonly start: CudaEvent;
  readonly end: CudaEvent;
}

export function timed(events: BorrowedEvents, stream: CudaStream, work: () => void): Span {
  const start = events.mark(stream);
  work();
  return { start, end: events.mark(stream) };
}

export const untimed = (_: CudaStream, work: () => void) => work();

/** An event behind all work of the stream. */
export function recorded(events: BorrowedEvents, stream: CudaStream): CudaEvent {
  const event = events.take(false);
  event.record(stream);
  return event;
}

/** A run is expected to take as long as the shortest of so many before it. */
const WAITS_KEPT = 4;

/** The end of a program that runs again and again. */
export class RecurringEnd {
  /** How long it was waited for the last times. */
  readonly #waitsMs: number[] = [];

  /** Resolves when all work of the stream is done, with what the last waits took for what to expect. */
  async wait(stream: CudaStream): Promise<void> {
    const began = performance.now();
    const known = this.#waitsMs.length === WAITS_KEPT;
    await stream.finished(known ? Math.min(...this.#waitsMs) : 0);
    if (known) this.#waitsMs.shift();
    this.#waitsMs.push(performance.now() - began);
  }
}
