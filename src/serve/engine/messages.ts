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

export function readRequest(entries: Float64Array, place: number): PostedRequest {
  const number = (i: number) => entries[place + i] as number;
  return {
    ticket: number(1),
    slotAddress: number(2),
    outputAddress: number(3),
    samples: number(4),
    deadlineMs: number(5),
    priority: number(6),
    arrivedMs: number(7),
  };
}

/** Gives a request up, wherever it is. Its answer comes all the same. */
export function postCancel(ring: RingWriter, ticket: number): boolean {
  return ring.push(TO_ENGINE.cancel, ticket);
}

/** How a request ended at the engine. */
export const OUTCOMES = ['done', 'late', 'overloaded', 'unmeetable', 'cancelled', 'failed'] as const;
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
  /** Of its batch. */
  readonly batchSamples: number;
}

export function postAnswer(ring: RingWriter, answered: Answered): boolean {
  const { ticket, outcome, retryAfterMs, queueMs, mergeMs, computeMs, copyMs, batchSamples } = answered;
  return ring.push(
    ticket,
    OUTCOMES.indexOf(outcome),
    retryAfterMs,
    queueMs,
    mergeMs,
    computeMs,
    copyMs,
    batchSamples,
  );
}

export function readAnswer(entries: Float64Array, place: number): Answered {
  const number = (i: number) => entries[place + i] as number;
  return {
    ticket: number(0),
    outcome: OUTCOMES[number(1)] ?? 'failed',
    retryAfterMs: number(2),
    queueMs: number(3),
    mergeMs: number(4),
    computeMs: number(5),
    copyMs: number(6),
    batchSamples: number(7),
  };
}
