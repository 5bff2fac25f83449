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

/** What a body gets at first, where nothing says how long it is, and at most: who only claims that much is to come takes no more. */
const FIRST_BYTES = 64 << 10;
const MOST_FIRST_BYTES = 1 << 20;

/**
 * Receives the body. Undefined: the client went away before its end.
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
  let slot = take(room, said === undefined ? FIRST_BYTES : Math.min(said, MOST_FIRST_BYTES));
  let received = 0;
  let isWhole = false;
  try {
    isWhole = await readWhole(request, (chunk) => {
      const bytes = received + chunk.length;
      if (bytes > most) throw tooLarge(most);
      if (before + bytes + behind > slot.bytes.length) {
        const larger = take(room, Math.min(most, Math.max(bytes, 2 * received)));
        larger.bytes.set(slot.bytes.subarray(before, before + received), before);
        arena.give(slot);
        slot = larger;
      }
      slot.bytes.set(chunk, before + received);
      received = bytes;
    });
  } finally {
    if (!isWhole) arena.give(slot);
  }
  return isWhole ? { slot, body: slot.bytes.subarray(before, before + received) } : undefined;
}

/** A slot for a body of so many bytes. @throws DeviceError OVERLOADED. */
function take({ arena, before, behind }: BodyRoom, bytes: number): Slot {
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
export function readWhole(request: IncomingMessage, take: (chunk: Buffer) => void): Promise<boolean> {
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
