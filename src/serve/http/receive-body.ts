/** The body of an HTTP request, received into a slot. */
import type { IncomingMessage } from 'node:http';
import { deferred } from '../../deferred.ts';
import { DeviceError, ServeError } from '../../errors.ts';
import type { Lender, Slot, SlotArena } from '../engine/arena.ts';

export interface BodyRoom {
  readonly arena: SlotArena;
  /** Bytes before the body: of the record's header. */
  readonly before: number;
  /** Bytes behind it. */
  readonly behind: number;
  /** Of the body, at most. */
  readonly mostBytes: number;
}

export interface ReceivedBody {
  /** The caller gives it back. */
  readonly slot: Slot;
  readonly body: Uint8Array;
}

/** What a body gets at first, at least. */
const FIRST_BYTES = 16 << 10;
/** One that says how long it is gets so many times what has come: who only claims that much is to come takes no more. */
const FIRST_SHARE = 16;

/**
 * Receives the body. Undefined: the client went away before its end. Where memory is short, a body that takes long to come is given up.
 * @throws ServeError BODY_TOO_LARGE; DeviceError OVERLOADED where slots take all memory that there is for them. The rest of the body
 *   is not read then.
 */
export async function receiveBody(
  request: IncomingMessage,
  room: BodyRoom,
): Promise<ReceivedBody | undefined> {
  const { arena, before, behind, mostBytes } = room;
  const header = request.headers['content-length'];
  const said = header === undefined ? undefined : Number(header);
  if (said !== undefined && said > mostBytes) throw tooLarge(mostBytes);
  const most = said ?? mostBytes;
  let slot: Slot | undefined;
  let received = 0;
  const lender: Lender = {
    giveBack() {
      if (slot !== undefined) arena.give(slot);
      slot = undefined;
      reading.stop(tooSlow());
    },
  };
  const reading = read(request, (chunk) => {
    const bytes = received + chunk.length;
    if (bytes > most) throw tooLarge(most);
    if (slot === undefined) {
      slot = take(room, firstBytes(said, bytes), lender);
      arena.lend(lender);
    } else if (before + bytes + behind > slot.bytes.length) {
      const larger = take(room, grownBytes(most, Math.max(bytes, 2 * received)), lender);
      larger.bytes.set(slot.bytes.subarray(before, before + received), before);
      arena.give(slot);
      slot = larger;
    }
    slot.bytes.set(chunk, before + received);
    received = bytes;
  });
  let isWhole = false;
  try {
    isWhole = await reading.whole;
  } finally {
    arena.keep(lender);
    if (!isWhole && slot !== undefined) arena.give(slot);
  }
  if (!isWhole) return undefined;
  const own = slot ?? take(room, 0, lender);
  return { slot: own, body: own.bytes.subarray(before, before + received) };
}

function firstBytes(said: number | undefined, bytes: number): number {
  return said === undefined
    ? Math.max(FIRST_BYTES, bytes)
    : Math.min(said, Math.max(FIRST_BYTES, FIRST_SHARE * bytes));
}

/** The last slots before the largest are small beside it: room for three of the largest holds one however it comes. */
function grownBytes(most: number, wanted: number): number {
  return 2 * wanted > most ? most : wanted;
}

/** A slot for a body of so many bytes. @throws DeviceError OVERLOADED. */
function take({ arena, before, behind }: BodyRoom, bytes: number, taker: Lender): Slot {
  const slot = arena.take(before + bytes + behind, taker);
  if (slot !== undefined) return slot;
  throw arenaFull(arena);
}

function tooSlow(): DeviceError {
  return new DeviceError('OVERLOADED', 'the body came too slowly: other requests need its memory', {
    hint: 'send it again later, or faster',
  });
}

export function arenaFull({ used, bytes }: SlotArena): DeviceError {
  return new DeviceError(
    'OVERLOADED',
    `requests take ${used} of the ${bytes} bytes that there are for them`,
    {
      hint: 'send fewer requests at once, or smaller ones',
    },
  );
}

function tooLarge(mostBytes: number): ServeError {
  return new ServeError('BODY_TOO_LARGE', `the body has more than ${mostBytes} bytes`);
}

/** A body that is being read. */
export interface Reading {
  /** False: the client went away. Rejects with what `take` throws, or what reading was stopped with. */
  readonly whole: Promise<boolean>;
  /** The rest is not read. */
  stop(error: Error): void;
}

/** Reads to the end. `take` is not called again once `whole` has settled. */
export function read(request: IncomingMessage, take: (chunk: Buffer) => void): Reading {
  const { promise, resolve, reject } = deferred<boolean>();
  const stop = (error: Error) => {
    request.off('data', onData);
    request.pause();
    reject(error);
  };
  const onData = (chunk: Buffer) => {
    try {
      take(chunk);
    } catch (error) {
      stop(error instanceof Error ? error : new Error(String(error)));
    }
  };
  const onGone = () => {
    request.off('data', onData);
    resolve(false);
  };
  request.on('data', onData);
  request.once('end', () => resolve(request.complete));
  request.once('error', onGone);
  request.once('close', onGone);
  return { whole: promise, stop };
}
