import { Scope } from './scope.ts';

/** What stays while it is held, whatever is disposed meanwhile. */
export interface Holdable {
  /** Holds it until what is given back is disposed. @throws DeviceError DISPOSED. */
  hold(): Disposable;
}

/** Holds all of `things` until what is given back is disposed; where one cannot be held, none is. @throws DeviceError DISPOSED. */
export function holdAll(things: Iterable<Holdable>): Disposable {
  const held = new Scope();
  try {
    for (const thing of things) held.use(thing.hold());
  } catch (error) {
    held[Symbol.dispose]();
    throw error;
  }
  return held;
}
