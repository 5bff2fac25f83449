/** The body of an HTTP request, received into a slot. */
import type { IncomingMessage } from 'node:http';
import { at } from '../../at.ts';
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

/**
 * Receives the body. Undefined: the client went away before its end.
 * @throws ServeError BODY_TOO_LARGE; DeviceError OVERLOADED where slots take all memory that there is for them. The rest of the body
 *   is not read then.
 */
export function receiveBody(request: IncomingMessage, room: BodyRoom): Promise<ReceivedBody | undefined> {
  const said = request.headers['content-length'];
  return said === undefined ? receiveChunked(request, room) : receiveSized(request, Number(said), room);
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

/** Straight into its slot. */
async function receiveSized(
  request: IncomingMessage,
  bytes: number,
  room: BodyRoom,
): Promise<ReceivedBody | undefined> {
  const slot = takeSlot(bytes, room);
  const body = slot.bytes.subarray(room.before, room.before + bytes);
  let received = 0;
  const isWhole = await whole(request, (chunk) => {
    // The parser of HTTP gives no more than what was said.
    body.set(chunk, received);
    received += chunk.length;
  });
  if (isWhole && received === bytes) return { slot, body };
  room.arena.give(slot);
  return undefined;
}

/** Where nothing says how long it is, its pieces are kept until the end. */
async function receiveChunked(request: IncomingMessage, room: BodyRoom): Promise<ReceivedBody | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const isWhole = await whole(request, (chunk) => {
    bytes += chunk.length;
    if (bytes > room.mostBytes) throw tooLarge(room.mostBytes);
    chunks.push(chunk);
  });
  if (!isWhole) return undefined;
  const slot = takeSlot(bytes, room);
  const body = slot.bytes.subarray(room.before, room.before + bytes);
  let end = 0;
  for (let i = 0; i < chunks.length; i++) {
    const chunk = at(chunks, i);
    body.set(chunk, end);
    end += chunk.length;
  }
  return { slot, body };
}

/** Reads to the end; false: the client went away. Rejects with what `take` throws. */
function whole(request: IncomingMessage, take: (chunk: Buffer) => void): Promise<boolean> {
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      try {
        take(chunk);
      } catch (error) {
        request.removeAllListeners('data');
        request.pause();
        reject(error);
      }
    });
    request.once('end', () => resolve(request.complete));
    request.once('error', () => resolve(false));
    request.once('close', () => resolve(request.complete));
  });
}
