/** Copies from registered memory, which the device reads by itself. */
import type { RegisteredMemory } from '../../../cuda/memory.ts';

/** Bytes of registered memory that come over in one copy. `from`: in its buffer. */
export interface DirectCopy {
  readonly home: RegisteredMemory;
  readonly from: number;
  readonly to: number;
  bytes: number;
}

/** Adds a copy to those before, or lengthens the last one: neighbours there that are neighbours here are one copy. */
export function addCopy(copies: DirectCopy[], copy: DirectCopy): void {
  const last = copies.at(-1);
  const follows =
    last !== undefined && last.home === copy.home && copy.from - last.from === copy.to - last.to;
  if (follows && copy.to >= last.to) last.bytes = copy.to + copy.bytes - last.to;
  else copies.push(copy);
}
