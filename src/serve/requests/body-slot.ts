/** The slot of a body that is coming: it takes memory as it comes, not as it claims. */
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

export class BodySlot implements Lender {
  readonly #room: BodyRoom;
  readonly #stop: (error: Error) => void;
  readonly #said: number | undefined;
  readonly #most: number;
  #slot: Slot | undefined;
  #received = 0;

  /**
   * `said`: how many bytes are to come, where that is known. `stop`: called where memory is short and the body has been coming for long;
   * its slot is gone then, and nothing may be added any more.
   * @throws ServeError BODY_TOO_LARGE.
   */
  constructor(room: BodyRoom, said: number | undefined, stop: (error: Error) => void) {
    const { mostBytes } = room;
    if (said !== undefined && said > mostBytes) throw tooLarge(mostBytes);
    this.#room = room;
    this.#said = said;
    this.#most = said ?? mostBytes;
    this.#stop = stop;
  }

  /** Takes a piece of the body. @throws ServeError BODY_TOO_LARGE; DeviceError OVERLOADED where slots take all memory that there is. */
  add(chunk: Uint8Array): void {
    const { arena, before, behind } = this.#room;
    const bytes = this.#received + chunk.length;
    if (bytes > this.#most) throw tooLarge(this.#most);
    if (this.#slot === undefined) {
      this.#slot = take(this.#room, firstBytes(this.#said, bytes), this);
      // A body that has come at once keeps nobody waiting.
      if (bytes !== this.#said) arena.lend(this);
    } else if (before + bytes + behind > this.#slot.bytes.length) {
      const larger = take(this.#room, grownBytes(this.#most, Math.max(bytes, 2 * this.#received)), this);
      larger.bytes.set(this.#slot.bytes.subarray(before, before + this.#received), before);
      arena.give(this.#slot);
      this.#slot = larger;
    }
    this.#slot.bytes.set(chunk, before + this.#received);
    this.#received = bytes;
  }

  /** The body has come whole, and is the caller's. @throws DeviceError OVERLOADED. */
  whole(): ReceivedBody {
    const { arena, before } = this.#room;
    arena.keep(this);
    const slot = this.#slot ?? take(this.#room, 0, this);
    this.#slot = undefined;
    return { slot, body: slot.bytes.subarray(before, before + this.#received) };
  }

  /** The body does not come any more. */
  giveUp(): void {
    this.#room.arena.keep(this);
    if (this.#slot !== undefined) this.#room.arena.give(this.#slot);
    this.#slot = undefined;
  }

  giveBack(): void {
    this.giveUp();
    this.#stop(tooSlow());
  }
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

export function tooLarge(mostBytes: number): ServeError {
  return new ServeError('BODY_TOO_LARGE', `the body has more than ${mostBytes} bytes`);
}
