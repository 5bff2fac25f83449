/** Inference, whatever the transport: body to record, record to an engine, outputs to an answer. */
import type { Writable } from 'node:stream';
import { at } from '../../at.ts';
import { DeviceError, ServeError } from '../../errors.ts';
import type { Slot, SlotArena } from '../engine/arena.ts';
import { nowMs } from '../engine/clock.ts';
import type { Answered } from '../engine/messages.ts';
import { AnswerWriter, type GivenOutput } from '../protocol/answer.ts';
import { bindInferRequest } from '../protocol/bind-infer.ts';
import type { ServedModel } from '../protocol/documents.ts';
import type { InferRequest } from '../protocol/infer-request.ts';
import { KnownHeads } from '../protocol/known-heads.ts';
import { NativeBinder } from '../protocol/native-binder.ts';
import type { NativeRequest } from '../protocol/native-request.ts';
import { appendedBytes, appendRequest } from '../records/append-request.ts';
import { checkRecord } from '../records/check-record.ts';
import { writeRecord } from '../records/record.ts';
import { RecordModel, type RecordShape } from '../records/record-model.ts';
import { arenaFull, type BodyRoom, type ReceivedBody } from './body-slot.ts';
import type { EngineLine, EngineQueues, Engines } from './engine-lines.ts';

/** Behind a body: where the candidates of a few users begin, and what aligns them. */
const BEHIND_BODY = 64;

/** A model as a thread that receives requests knows it. */
export interface ModelAtFront {
  readonly served: ServedModel;
  readonly shape: RecordShape;
  /** One for each of its copies. */
  readonly queues: readonly EngineQueues[];
  /** The time that its requests have which do not say; default: as the server says. */
  readonly slaMs?: number;
  /** Whether its engines run in threads that had models before, as this thread has. */
  readonly isCompiled: boolean;
  /** How long to poll for its answers. */
  readonly pollMs: number;
}

/** What is said of a request when it has ended, for counters and logs. */
export interface Ended {
  /** Undefined: it was no inference request. */
  readonly samples?: number;
  readonly bodyBytes: number;
  readonly answered?: Answered;
  /** From the engine's answer to the client's. */
  readonly answerMs?: number;
}

/** A request that has been received. */
export interface Arrived {
  readonly arena: SlotArena;
  readonly arrivedMs: number;
  /** The time that it has where it does not say. */
  readonly slaMs: number | undefined;
  /** After which nobody waits for the answer, whatever it says. By `nowMs`. */
  readonly latestMs?: number;
  /** Who gives it up by going away. */
  readonly client: Writable | undefined;
  readonly tell: (ended: Ended) => void;
}

/** How a transport's requests and answers look. */
export interface TransportForm<Answer> {
  /** @throws what is wrong with the request: errors that `errorAnswer` knows. */
  read(body: Uint8Array): InferRequest;
  /** `arrays`: by the model's outputs, float32 [samples, width]; not to be used later. */
  write(
    samples: number,
    arrays: readonly Float32Array[],
    given: readonly GivenOutput[],
    id: string | undefined,
  ): Answer;
}

/** A request whose record is written and checked. */
interface Recorded {
  readonly slot: Slot;
  readonly samples: number;
}

export class InferModel {
  readonly served: ServedModel;
  readonly #records: RecordModel;
  readonly #binder: NativeBinder;
  readonly writer: AnswerWriter;
  /** JSON of its requests. */
  readonly heads = new KnownHeads();
  readonly #lines: readonly EngineLine[];
  readonly #engines: Engines;
  readonly #slaMs: number | undefined;
  /** Requests that have come and not ended. */
  #uses = 0;
  /** Told when the last request of a model that retires has ended. */
  #left: (() => void) | undefined;
  readonly #width: number;
  readonly #mostBytes: number;

  constructor({ served, shape, queues, slaMs, pollMs }: ModelAtFront, engines: Engines, mostBytes: number) {
    this.served = served;
    this.#records = new RecordModel(shape);
    this.#binder = new NativeBinder(served.inputs);
    this.writer = new AnswerWriter(served.name, served.version, served.outputs);
    this.#engines = engines;
    this.#lines = queues.map((own) => engines.add(own, pollMs));
    this.#slaMs = slaMs;
    this.#width = served.outputs.reduce((sum, { width }) => sum + width, 0);
    this.#mostBytes = mostBytes;
  }

  /** Requests that have been posted and not answered, of all its copies. */
  get waiting(): number {
    return this.#lines.reduce((sum, { waiting }) => sum + waiting, 0);
  }

  /** Ends its lines when all requests have ended; nobody sends it any from now on. */
  async retire(): Promise<void> {
    if (this.#uses > 0)
      await new Promise<void>((resolve) => {
        this.#left = resolve;
      });
    for (const line of this.#lines) this.#engines.remove(line);
  }

  /** Its engines have ended: what they were sent has no other answer. */
  abandon(): void {
    for (const line of this.#lines) line.abandon();
  }

  /** What the body of a request gets. */
  room(arena: SlotArena): BodyRoom {
    return {
      arena,
      before: this.#records.headerBytes,
      behind: BEHIND_BODY,
      mostBytes: this.#mostBytes,
    };
  }

  /**
   * Answers a request, whose body may have come into the room of another model, and gives its slot back. Undefined: its client went away.
   * @throws what is wrong with the request: errors that `errorAnswer` knows; Refused; BatchFailedError.
   */
  async answer<Answer>(
    received: ReceivedBody,
    { read, write }: TransportForm<Answer>,
    { arena, arrivedMs, slaMs, latestMs = Number.POSITIVE_INFINITY, client, tell }: Arrived,
  ): Promise<Answer | undefined> {
    const bodyBytes = received.body.length;
    const slots: Slot[] = [received.slot];
    this.#uses += 1;
    try {
      const asked = read(received.body);
      const given = this.writer.given(asked);
      const { slot, samples } =
        this.#recordInPlace(asked, received) ?? (await this.#recordCopy(asked, arena, slots));
      tell({ samples, bodyBytes });
      if (samples === 0) {
        const none = this.served.outputs.map(() => new Float32Array());
        return write(0, none, given, asked.id);
      }
      if (client?.destroyed) return undefined;
      const outputs = this.#roomForOutputs(slot, samples, arena, slots);
      const { timeoutMicros, priority } = asked;
      const ms = timeoutMicros === undefined ? (this.#slaMs ?? slaMs) : timeoutMicros / 1000;
      const line = this.#leastBusy();
      const { ticket, answered: answering } = post(line, {
        slotAddress: Number(slot.address),
        outputAddress: Number(outputs.address),
        samples,
        deadlineMs: ms === undefined ? latestMs : Math.min(arrivedMs + ms, latestMs),
        priority: levelOf(priority),
        arrivedMs,
      });
      // The engine may read the slot of a request that was given up all the same, until its answer comes.
      const giveUp = () => line.cancel(ticket);
      client?.once('close', giveUp);
      const answered = await answering;
      client?.off('close', giveUp);
      const answeredMs = nowMs();
      tell({ samples, bodyBytes, answered });
      if (!wasScored(answered)) return undefined;
      const answer = write(samples, this.#outputArrays(outputs, samples), given, asked.id);
      line.sent(answered);
      tell({ samples, bodyBytes, answered, answerMs: nowMs() - answeredMs });
      return answer;
    } finally {
      for (const slot of slots) arena.give(slot);
      this.#uses -= 1;
      if (this.#uses === 0) this.#left?.();
    }
  }

  /** Writes and checks the record of a request whose arrays stay in the body; undefined: they cannot. */
  #recordInPlace(asked: InferRequest, { slot, body }: ReceivedBody): Recorded | undefined {
    const bodyAt = body.byteOffset - slot.bytes.byteOffset;
    // A body that came before it was known whose it is may lie where the header goes.
    if (!('tensors' in asked) || bodyAt < this.#records.headerBytes) return undefined;
    const native = this.#binder.bind(asked, bodyAt);
    if (native === undefined || !this.#writeRecord(native, slot, bodyAt + body.length)) return undefined;
    this.#check(slot);
    return { slot, samples: native.samples };
  }

  /** The same in a slot of its own, which is one of `slots` then. */
  async #recordCopy(asked: InferRequest, arena: SlotArena, slots: Slot[]): Promise<Recorded> {
    const bound = await bindInferRequest(asked, this.served.inputs);
    const copy = arena.take(this.#records.headerBytes + appendedBytes(bound));
    if (copy === undefined) throw arenaFull(arena);
    slots.push(copy);
    appendRequest(this.#records, copy, bound);
    this.#check(copy);
    return { slot: copy, samples: bound.batchSize };
  }

  /** `end`: of the body in the slot. False: there is no room behind it for where users begin. */
  #writeRecord({ samples, denseAt, users, tables, pieces }: NativeRequest, slot: Slot, end: number): boolean {
    if (users === undefined) {
      writeRecord(this.#records, slot, { samples, denseAt, tables, pieces });
      return true;
    }
    const { starts } = users;
    const startsAt = Math.ceil(end / 8) * 8;
    if (startsAt + starts.byteLength > slot.bytes.length) return false;
    slot.bytes.set(new Uint8Array(starts.buffer, starts.byteOffset, starts.byteLength), startsAt);
    const usersAt = {
      count: starts.length - 1,
      startsAt,
      denseFeatures: users.denseFeatures,
      denseAt: users.denseAt,
    };
    writeRecord(this.#records, slot, { samples, denseAt, users: usersAt, tables, pieces });
    return true;
  }

  #check(slot: Slot): void {
    const error = checkRecord(this.#records, slot.address, slot.bytes.length);
    if (error !== undefined) throw error;
  }

  /** Where outputs go: over the request, which nobody reads any more by then, or where they do not fit, a slot of their own. */
  #roomForOutputs(slot: Slot, samples: number, arena: SlotArena, slots: Slot[]): Slot {
    const bytes = samples * this.#width * Float32Array.BYTES_PER_ELEMENT;
    if (bytes <= slot.bytes.length) return slot;
    const own = arena.take(bytes);
    if (own === undefined) throw arenaFull(arena);
    slots.push(own);
    return own;
  }

  /** The copy with least to do. */
  #leastBusy(): EngineLine {
    return this.#lines.reduce((least, other) => (other.load < least.load ? other : least));
  }

  #outputArrays({ bytes }: Slot, samples: number): Float32Array[] {
    let place = bytes.byteOffset;
    return this.served.outputs.map((_, o) => {
      const array = new Float32Array(bytes.buffer, place, samples * at(this.served.outputs, o).width);
      place += array.byteLength;
      return array;
    });
  }
}

/** @throws DeviceError OVERLOADED where too many wait. */
function post(line: EngineLine, request: Parameters<EngineLine['post']>[0]) {
  const posted = line.post(request);
  if (posted !== undefined) return posted;
  throw new DeviceError('OVERLOADED', `${line.waiting} requests of this thread wait for the model already`);
}

/** False: its client had given it up. @throws what it ended with, where it was not scored. */
function wasScored({ outcome, retryAfterMs }: Answered): boolean {
  switch (outcome) {
    case 'done':
      return true;
    case 'cancelled':
      return false;
    case 'late':
      throw new ServeError('DEADLINE_EXCEEDED', 'its deadline would have passed before its batch was done');
    case 'unmeetable':
      throw new Refused(
        new ServeError(
          'DEADLINE_UNMEETABLE',
          'it would not be done by its deadline: too much waits before it',
        ),
        retryAfterMs,
      );
    case 'overloaded':
      throw new Refused(new DeviceError('OVERLOADED', 'too many samples wait for the model'), retryAfterMs);
    case 'failed':
      throw new BatchFailedError('its batch failed');
    case 'lost':
      throw new ServeError('MODEL_UNAVAILABLE', 'the engine of the model has failed');
    default:
      return outcome satisfies never;
  }
}

/** The model that answers a request whose body has come: the one that is served now. @throws what `current` throws: the slot is given back. */
export function modelFor({ slot }: ReceivedBody, arena: SlotArena, current: () => InferModel): InferModel {
  try {
    return current();
  } catch (error) {
    arena.give(slot);
    throw error;
  }
}

/** The batch of a request failed: its engine has told why, once. */
export class BatchFailedError extends Error {}

/** A refusal, with when to try again. */
export class Refused extends Error {
  readonly error: ServeError | DeviceError;
  readonly retryAfterMs: number;

  constructor(error: ServeError | DeviceError, retryAfterMs: number) {
    super(error.message);
    this.error = error;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Levels of priority: the queue looks at each. */
const LEVELS = 8;
/** What a request has that says nothing. */
const DEFAULT_LEVEL = LEVELS / 2;

/** 1 is the highest; 0, the default, lies in the middle. */
function levelOf(priority: number): number {
  return priority === 0 ? DEFAULT_LEVEL : Math.min(priority, LEVELS);
}
