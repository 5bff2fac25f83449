/** Memory of a thread that receives requests, cut into slots: each holds a request from its first byte until its answer is sent. */
import { type HostPtr, NativeMemory, viewMemory } from '../../ffi/host-memory.ts';
import type { SlotView } from '../records/record.ts';
import { nowMs } from './clock.ts';

/** Slots start at multiples of this, as records must. */
const ALIGNMENT = 64;

/** Memory of an arena, as threads hand it on. */
export interface ArenaPlace {
  /** A multiple of 64. */
  readonly address: number;
  /** A multiple of 64. */
  readonly bytes: number;
}

/** Memory for an arena of at least so many bytes: its owner gives it back when nobody uses it any more. @throws DeviceError OUT_OF_MEMORY. */
export function arenaMemory(bytes: number): NativeMemory {
  return new NativeMemory(aligned(Math.max(bytes, 1)));
}

/** A stretch of the arena. */
export interface Slot extends SlotView {
  /** From the arena's start, in bytes. */
  readonly at: number;
}

/** Who holds a slot that others may have when there is no room, once it has had its time. */
export interface Lender {
  /** Gives the slot back at once. */
  giveBack(): void;
}

/** How long a lender is left alone. */
const PATIENCE_MS = 1000;

interface Gap {
  at: number;
  bytes: number;
}

export class SlotArena implements Disposable {
  /** Its own memory; undefined: it is another's. */
  readonly #memory: NativeMemory | undefined;
  readonly address: HostPtr;
  readonly #buffer: ArrayBuffer;
  /** In the order of their places; neighbours are one. */
  readonly #gaps: Gap[];
  /** Since when each has had its slot, in this order. */
  readonly #lenders = new Map<Lender, number>();
  readonly #patienceMs: number;
  /** Of all slots and gaps: a multiple of 64. */
  readonly bytes: number;
  #used = 0;

  /** Over memory that its owner keeps while the arena is used; or over its own, of so many bytes. @throws DeviceError OUT_OF_MEMORY. */
  constructor(memory: ArenaPlace | number, patienceMs = PATIENCE_MS) {
    this.#patienceMs = patienceMs;
    const own = typeof memory === 'number' ? arenaMemory(memory) : undefined;
    this.#memory = own;
    this.bytes = own?.bytes ?? (memory as ArenaPlace).bytes;
    this.address = own?.address ?? (BigInt((memory as ArenaPlace).address) as HostPtr);
    this.#buffer = viewMemory(this.address, this.bytes);
    this.#gaps = [{ at: 0, bytes: this.bytes }];
  }

  /** Bytes of slots. */
  get used(): number {
    return this.#used;
  }

  /** What `lender` holds may be asked for from now on, until it keeps it. */
  lend(lender: Lender): void {
    this.#lenders.set(lender, nowMs());
  }

  keep(lender: Lender): void {
    this.#lenders.delete(lender);
  }

  /**
   * A slot of at least so many bytes; undefined: there is no room for it now. What was in it before is still there. `taker`: a lender
   * that is left alone.
   */
  take(bytes: number, taker?: Lender): Slot | undefined {
    const own = aligned(Math.max(bytes, 1));
    const find = () => this.#gaps.findIndex((gap) => gap.bytes >= own);
    let place = find();
    while (place < 0 && this.#callIn(taker)) place = find();
    const gap = this.#gaps[place];
    if (gap === undefined) return undefined;
    const { at } = gap;
    if (gap.bytes === own) this.#gaps.splice(place, 1);
    else {
      gap.at += own;
      gap.bytes -= own;
    }
    this.#used += own;
    return {
      at,
      address: (this.address + BigInt(at)) as HostPtr,
      words: new Uint32Array(this.#buffer, at, own / Uint32Array.BYTES_PER_ELEMENT),
      bytes: new Uint8Array(this.#buffer, at, own),
    };
  }

  /** Gives a slot back, once. @throws RangeError for one that was given back: two requests would share it. */
  give({ at, bytes: { length: bytes } }: Slot): void {
    let next = this.#gaps.findIndex((gap) => gap.at > at);
    if (next < 0) next = this.#gaps.length;
    const [before, after] = [this.#gaps[next - 1], this.#gaps[next]];
    const isFree =
      (before !== undefined && before.at + before.bytes > at) || (after?.at ?? this.bytes) < at + bytes;
    if (isFree) throw new RangeError(`the slot of ${bytes} bytes at ${at} was given back already`);
    this.#used -= bytes;
    const joinsBefore = before !== undefined && before.at + before.bytes === at;
    const joinsAfter = after !== undefined && at + bytes === after.at;
    if (joinsBefore && joinsAfter) {
      before.bytes += bytes + after.bytes;
      this.#gaps.splice(next, 1);
    } else if (joinsBefore) before.bytes += bytes;
    else if (joinsAfter) {
      after.at = at;
      after.bytes += bytes;
    } else this.#gaps.splice(next, 0, { at, bytes });
  }

  /** Asks who has held a slot for longest; false: all hold theirs rightly. */
  #callIn(taker: Lender | undefined): boolean {
    for (const [lender, sinceMs] of this.#lenders) {
      if (lender === taker) continue;
      if (nowMs() - sinceMs < this.#patienceMs) return false;
      this.#lenders.delete(lender);
      lender.giveBack();
      return true;
    }
    return false;
  }

  [Symbol.dispose](): void {
    this.#memory?.[Symbol.dispose]();
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
