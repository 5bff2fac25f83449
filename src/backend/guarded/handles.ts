/**
 * What callers get of a backend's objects: handles that say what the contract says, and nothing else. What is behind one stays
 * here, so that no address can be read or changed, and it is given back when no run uses it any more.
 */
import { refuseOption } from '../../checks/value.ts';
import { DeviceError } from '../../errors.ts';
import type { Holdable } from '../hold-all.ts';

/** What is behind a handle. */
export class Held<T extends Disposable = Disposable> implements Holdable {
  readonly #inner: T;
  readonly #what: string;
  readonly #parent: Held | undefined;
  #users = 0;
  #disposed = false;
  readonly #whenUnused: (() => void)[] = [];

  /** `parent`: what must stay while this is used. */
  constructor(what: string, inner: T, parent?: Held) {
    this.#what = what;
    this.#inner = inner;
    this.#parent = parent;
  }

  /** @throws DeviceError DISPOSED. */
  get inner(): T {
    void this.#parent?.inner;
    if (this.#disposed) throw new DeviceError('DISPOSED', `${this.#what} was used after it was disposed`);
    return this.#inner;
  }

  /** Stays, with its parent, until what is given back is disposed. */
  hold(): Disposable {
    const parent = this.#parent?.hold();
    this.#users += 1;
    return { [Symbol.dispose]: () => this.#release(parent) };
  }

  #release(parent: Disposable | undefined): void {
    this.#users -= 1;
    if (this.#users === 0 && this.#disposed) this.#inner[Symbol.dispose]();
    if (this.#users === 0) for (const tell of this.#whenUnused.splice(0)) tell();
    parent?.[Symbol.dispose]();
  }

  /** Resolves when nothing uses it. */
  unused(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#users === 0) resolve();
      else this.#whenUnused.push(resolve);
    });
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#users === 0) this.#inner[Symbol.dispose]();
  }
}

/** What a handle of one kind says, beside what is behind it. */
export interface Entry<T extends Disposable, Facts> {
  readonly held: Held<T>;
  readonly facts: Facts;
}

/** Every handle that a backend of this process gave, and where it is known. */
const givers = new WeakMap<object, Handles<Disposable, object>>();

/** The handles of one kind that one backend gave. */
export class Handles<T extends Disposable, Facts extends object> {
  readonly #what: string;
  readonly #device: string;
  readonly #known = new WeakMap<object, Entry<T, Facts>>();
  readonly #inners = new WeakSet<T>();

  /** `what`: how messages call one. `device`: the id of the backend's device. */
  constructor(what: string, device: string) {
    this.#what = what;
    this.#device = device;
  }

  /** A handle, which cannot be changed. */
  give<H extends object>(inner: T, handle: H, facts: Facts, parent?: Held): H & Disposable {
    const held = new Held(this.#what, inner, parent);
    const given = Object.freeze({ ...handle, [Symbol.dispose]: () => held.dispose() });
    this.#known.set(given, { held, facts });
    this.#inners.add(inner);
    givers.set(given, this);
    return given;
  }

  /**
   * What is behind a handle.
   * @throws UsageError OPTION_INVALID for what is none of this backend's, naming both devices where it is on another; DeviceError
   *   DISPOSED.
   */
  of(value: unknown, at: string): Entry<T, Facts> {
    return this.#find(value) ?? this.#refuse(value, at);
  }

  /**
   * What is behind a handle that any backend of this process gave.
   * @throws UsageError OPTION_INVALID for what is none of this kind; DeviceError DISPOSED, for its backend too.
   */
  ofAny(value: unknown, at: string): Entry<T, Facts> {
    const giver = giverOf(value);
    if (giver === undefined || giver.#what !== this.#what)
      return refuseOption(at, value, `${this.#what} that a backend gave`);
    // Handles that are called the same are of the same types.
    return (giver as unknown as this).#find(value) ?? this.#refuse(value, at);
  }

  /** Whether it is behind a handle of this backend. */
  gave(inner: T): boolean {
    return this.#inners.has(inner);
  }

  #find(value: unknown): Entry<T, Facts> | undefined {
    const known = typeof value === 'object' && value !== null ? this.#known.get(value) : undefined;
    void known?.held.inner;
    return known;
  }

  #refuse(value: unknown, at: string): never {
    const giver = giverOf(value);
    const elsewhere =
      giver === undefined || giver.#device === this.#device
        ? ''
        : ` on ${this.#device}, not one on ${giver.#device}`;
    return refuseOption(at, value, `${this.#what} that this backend gave${elsewhere}`);
  }
}

function giverOf(value: unknown): Handles<Disposable, object> | undefined {
  return typeof value === 'object' && value !== null ? givers.get(value) : undefined;
}
