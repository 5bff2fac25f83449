/** Events behind what a program has put into its streams. */
import type { CudaEvent } from '../../cuda/event.ts';
import type { CudaStream } from '../../cuda/stream.ts';
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
