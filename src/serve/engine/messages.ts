/** What the threads of a server say to each other through their queues: the numbers of an entry (ring.ts). */
import type { RingWriter } from './ring.ts';

/** From a thread that receives requests to an engine. */
export const TO_ENGINE = { request: 0, cancel: 1 } as const;

/** A checked request in a slot. */
export interface PostedRequest {
  /** Names the request between the two threads. */
  readonly ticket: number;
  /** Where its record is; addresses are below 2^53. */
  readonly slotAddress: number;
  /** Where its outputs go: float32 [samples, width] of each output, one behind the other. It may be where the record is. */
  readonly outputAddress: number;
  readonly samples: number;
  /** By `nowMs`; infinite: none. */
  readonly deadlineMs: number;
  readonly priority: number;
  readonly arrivedMs: number;
}

/** False: the queue is full. */
export function postRequest(ring: RingWriter, request: PostedRequest): boolean {
  const { ticket, slotAddress, outputAddress, samples, deadlineMs, priority, arrivedMs } = request;
  return ring.push(
    TO_ENGINE.request,
    ticket,
    slotAddress,
    outputAddress,
    samples,
    deadlineMs,
    priority,
    arrivedMs,
  );
}

/** A request as its engine reads it. */
export interface ReceivedRequest extends PostedRequest {
  /** The thread that it came from. */
  readonly from: number;
}

export function readRequest(entries: Float64Array, place: number, from: number): ReceivedRequest {
  return {
    from,
    ticket: entries[place + 1] as number,
    slotAddress: entries[place + 2] as number,
    outputAddress: entries[place + 3] as number,
    samples: entries[place + 4] as number,
    deadlineMs: entries[place + 5] as number,
    priority: entries[place + 6] as number,
    arrivedMs: entries[place + 7] as number,
  };
}

/** Gives a request up, wherever it is. Its answer comes all the same. */
export function postCancel(ring: RingWriter, ticket: number): boolean {
  return ring.push(TO_ENGINE.cancel, ticket);
}

/** How a request ended at the engine. `lost`: with its engine. */
export const OUTCOMES = ['done', 'late', 'overloaded', 'unmeetable', 'cancelled', 'failed', 'lost'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** From an engine to the thread that the request came from, whose slots are its own again. */
export interface Answered {
  readonly ticket: number;
  readonly outcome: Outcome;
  /** Of a refusal: after which time the client may try again. */
  readonly retryAfterMs: number;
  /** From arrival until its batch began. */
  readonly queueMs: number;
  readonly mergeMs: number;
  readonly computeMs: number;
  /** Outputs to slots, of the whole batch. */
  readonly copyMs: number;
  /** When the engine gave the answer, by `nowMs`. */
  readonly endedMs: number;
}

export function postAnswer(ring: RingWriter, answered: Answered): boolean {
  const { ticket, outcome, retryAfterMs, queueMs, mergeMs, computeMs, copyMs, endedMs } = answered;
  return ring.push(
    ticket,
    OUTCOMES.indexOf(outcome),
    retryAfterMs,
    queueMs,
    mergeMs,
    computeMs,
    copyMs,
    endedMs,
  );
}

export function readAnswer(entries: Float64Array, place: number): Answered {
  return {
    ticket: entries[place] as number,
    outcome: OUTCOMES[entries[place + 1] as number] ?? 'failed',
    retryAfterMs: entries[place + 2] as number,
    queueMs: entries[place + 3] as number,
    mergeMs: entries[place + 4] as number,
    computeMs: entries[place + 5] as number,
    copyMs: entries[place + 6] as number,
    endedMs: entries[place + 7] as number,
  };
}
