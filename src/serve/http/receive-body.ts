/** The body of an HTTP request, received into a slot. */
import type { IncomingMessage } from 'node:http';
import { DeviceError, ServeError } from '../../errors.ts';
import type { Slot, SlotArena } from '../engine/arena.ts';

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

/** Where nothing says how long the body is, its slot has room for so much at first, and then for twice as much each time. */
const FIRST_BYTES = 16 << 10;

/**
 * Receives the body straight into a slot. Undefined: the client went away before its end.
 * @throws ServeError BODY_TOO_LARGE; DeviceError OVERLOADED where slots take all memory that there is for them. The rest of the body
 *   is not read then, and there is no slot.
 */
export async function receiveBody(
  request: IncomingMessage,
  room: BodyRoom,
): Promise<ReceivedBody | undefined> {
  const { arena, before, behind, mostBytes } = room;
  const said = request.headers['content-length'];
  const expected = said === undefined ? undefined : Number(said);
  let slot = takeSlot(expected ?? Math.min(FIRST_BYTES, mostBytes), room);
  let received = 0;
  let isWhole = false;
  try {
    isWhole = await whole(request, (chunk) => {
      const bytes = received + chunk.length;
      if (bytes > mostBytes) throw tooLarge(mostBytes);
      if (before + bytes + behind > slot.bytes.length)
        slot = grown(slot, before + received, Math.min(mostBytes, Math.max(bytes, 2 * received)), room);
      slot.bytes.set(chunk, before + received);
      received = bytes;
    });
    isWhole &&= expected === undefined || received === expected;
  } finally {
    if (!isWhole) arena.give(slot);
  }
  return isWhole ? { slot, body: slot.bytes.subarray(before, before + received) } : undefined;
}

/** A slot for a body of so many bytes, with the first `kept` bytes of `slot`, which it takes the place of. @throws as takeSlot. */
function grown(slot: Slot, kept: number, bytes: number, room: BodyRoom): Slot {
  const larger = takeSlot(bytes, room);
  larger.bytes.set(slot.bytes.subarray(0, kept));
  room.arena.give(slot);
  return larger;
}

/** A slot for a body of so many bytes. @throws ServeError BODY_TOO_LARGE; DeviceError OVERLOADED. */
function takeSlot(bytes: number, { arena, before, behind, mostBytes }: BodyRoom): Slot {
  if (bytes > mostBytes) throw tooLarge(mostBytes);
  const slot = arena.take(before + bytes + behind);
  if (slot !== undefined) return slot;
  throw arenaFull(arena);
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

/** Reads to the end; false: the client went away. Rejects with what `take` throws; it is not called again once this has settled. */
function whole(request: IncomingMessage, take: (chunk: Buffer) => void): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const onData = (chunk: Buffer) => {
      try {
        take(chunk);
      } catch (error) {
        request.off('data', onData);
        request.pause();
        reject(error);
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
  });
}
