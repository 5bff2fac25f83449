/**
 * A pickle reader that executes nothing. It knows numbers, strings, containers and the few globals that its caller
 * allows by name; any other global is refused before anything else happens.
 */
import { FormatError } from '../errors.ts';

/** What a pickle holds: tuples and lists are arrays, dicts are Maps, sets are Sets. */
export type PickledValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PickledValue[]
  | Map<PickledValue, PickledValue>
  | Set<PickledValue>
  | object;

/** An object that takes a state after it was made. */
export interface Stateful {
  setState(state: PickledValue): void;
}

const isStateful = (value: PickledValue): value is Stateful =>
  typeof value === 'object' && value !== null && 'setState' in value;

/** An allowed global: called with the arguments that the pickle gives it. */
export type Global = (...args: PickledValue[]) => PickledValue;

export interface UnpickleOptions {
  /** Named in errors. */
  readonly file: string;
  /** Where the pickle begins. */
  readonly offset?: number;
  /** What an allowed global stands for: a function, or a value; undefined refuses it. */
  readonly global: (module: string, name: string) => Global | { readonly value: PickledValue } | undefined;
  /** Resolves a persistent id, e.g. a storage. */
  readonly persistentLoad?: (id: PickledValue) => PickledValue;
}

/** More objects than any state dict has; keeps hostile files from filling memory. */
const MAX_OBJECTS = 20_000_000;

/** Of these, how many may be containers, which take a hundred bytes or more from a file's one. */
const MAX_CONTAINERS = 2_000_000;

/** Pushed where a MARK is. */
const MARK = Symbol('mark');
type StackValue = PickledValue | typeof MARK;

/** A global on the stack, waiting for its arguments. */
class Callable {
  constructor(readonly call: Global) {}
}

/**
 * Reads one pickle.
 * @throws FormatError PICKLE_FORBIDDEN naming the global, PICKLE_INVALID naming the byte.
 */
export function unpickle(bytes: Uint8Array, options: UnpickleOptions): { value: PickledValue; end: number } {
  const reader = new Unpickler(bytes, options);
  try {
    return reader.run();
  } catch (error) {
    if (error instanceof FormatError) throw error;
    // Anything else comes from values that do not fit their opcode.
    throw reader.invalid((error as Error).message);
  }
}

class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #options: UnpickleOptions;
  readonly #stack: StackValue[] = [];
  readonly #memo = new Map<number, PickledValue>();
  #at: number;
  #opcodeAt = 0;
  #objects = 0;
  #containers = 0;

  constructor(bytes: Uint8Array, options: UnpickleOptions) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#options = options;
    this.#at = options.offset ?? 0;
  }

  invalid(message: string): FormatError {
    const { file } = this.#options;
    return new FormatError(
      'PICKLE_INVALID',
      `${file}: the pickle is damaged at byte ${this.#opcodeAt}: ${message}`,
      {
        file,
        position: this.#opcodeAt,
      },
    );
  }

  run(): { value: PickledValue; end: number } {
    for (;;) {
      this.#opcodeAt = this.#at;
      if (++this.#objects > MAX_OBJECTS) throw this.invalid(`it has more than ${MAX_OBJECTS} operations`);
      const opcode = String.fromCharCode(this.#uint8());
      if (opcode === '.') return { value: this.#pop(), end: this.#at };
      this.#execute(opcode);
    }
  }

  #execute(opcode: string): void {
    switch (opcode) {
      case '\x80': // PROTO
        if (this.#uint8() > 5) throw this.invalid('its protocol is newer than 5');
        return;
      case '\x95': // FRAME
        this.#take(8);
        return;
      case '(':
        this.#stack.push(MARK);
        return;
      case '0':
        this.#pop();
        return;
      case '1':
        this.#popMark();
        return;
      case '2': {
        const top = this.#pop();
        this.#stack.push(top, top);
        return;
      }
      case 'N':
        this.#push(null);
        return;
      case '\x88':
        this.#push(true);
        return;
      case '\x89':
        this.#push(false);
        return;
      default:
        if (
          this.#number(opcode) ||
          this.#text(opcode) ||
          this.#container(opcode) ||
          this.#memoise(opcode) ||
          this.#object(opcode)
        )
          return;
        throw this.invalid(`opcode 0x${opcode.charCodeAt(0).toString(16)} is unknown or not allowed`);
    }
  }

  #number(opcode: string): boolean {
    switch (opcode) {
      case 'K':
        this.#push(this.#uint8());
        return true;
      case 'M':
        this.#push(this.#view.getUint16(this.#advance(2), true));
        return true;
      case 'J':
        this.#push(this.#view.getInt32(this.#advance(4), true));
        return true;
      case 'G':
        this.#push(this.#view.getFloat64(this.#advance(8)));
        return true;
      case '\x8a': // LONG1
        this.#push(this.#long(this.#uint8()));
        return true;
      case '\x8b': // LONG4
        this.#push(this.#long(this.#view.getInt32(this.#advance(4), true)));
        return true;
      case 'I': {
        const text = this.#line();
        this.#push(text === '00' ? false : text === '01' ? true : this.#decimal(text));
        return true;
      }
      case 'L':
        this.#push(this.#decimal(this.#line().replace(/L$/, '')));
        return true;
      case 'F': {
        const value = Number(this.#line());
        this.#push(value);
        return true;
      }
      default:
        return false;
    }
  }

  #text(opcode: string): boolean {
    switch (opcode) {
      case 'X': // BINUNICODE
        this.#push(this.#utf8(this.#uint32()));
        return true;
      case '\x8c': // SHORT_BINUNICODE
        this.#push(this.#utf8(this.#uint8()));
        return true;
      case '\x8d': // BINUNICODE8
        this.#push(this.#utf8(this.#size64()));
        return true;
      case 'V':
        this.#push(this.#line());
        return true;
      case 'T': // BINSTRING
        this.#push(latin1(this.#take(this.#uint32())));
        return true;
      case 'U': // SHORT_BINSTRING
        this.#push(latin1(this.#take(this.#uint8())));
        return true;
      case 'S': // STRING, quoted
        this.#push(this.#line().replace(/^(['"])(.*)\1$/s, '$2'));
        return true;
      case 'B':
        this.#push(this.#take(this.#uint32()));
        return true;
      case 'C':
        this.#push(this.#take(this.#uint8()));
        return true;
      case '\x8e': // BINBYTES8
      case '\x96': // BYTEARRAY8
        this.#push(this.#take(this.#size64()));
        return true;
      default:
        return false;
    }
  }

  #container(opcode: string): boolean {
    switch (opcode) {
      case ')':
      case ']':
        this.#push([]);
        return true;
      case '}':
        this.#push(new Map());
        return true;
      case '\x8f':
        this.#push(new Set());
        return true;
      case 't':
      case 'l':
        this.#push(this.#popMark());
        return true;
      case '\x91': // FROZENSET
        this.#push(new Set(this.#popMark()));
        return true;
      case 'd':
        this.#push(pairs(new Map(), this.#popMark()));
        return true;
      case '\x85':
        this.#push([this.#pop()]);
        return true;
      case '\x86':
        this.#push(this.#popMany(2));
        return true;
      case '\x87':
        this.#push(this.#popMany(3));
        return true;
      case 'a': {
        const value = this.#pop();
        this.#top(Array.isArray, 'a list').push(value);
        return true;
      }
      case 'e': {
        const values = this.#popMark();
        const list = this.#top(Array.isArray, 'a list');
        for (const value of values) list.push(value);
        return true;
      }
      case 's': {
        const [key, value] = this.#popMany(2) as [PickledValue, PickledValue];
        this.#top(isMap, 'a dict').set(key, value);
        return true;
      }
      case 'u': {
        const values = this.#popMark();
        pairs(this.#top(isMap, 'a dict'), values);
        return true;
      }
      case '\x90': {
        const values = this.#popMark();
        const set = this.#top((value): value is Set<PickledValue> => value instanceof Set, 'a set');
        for (const value of values) set.add(value);
        return true;
      }
      default:
        return false;
    }
  }

  #memoise(opcode: string): boolean {
    switch (opcode) {
      case 'p':
        this.#memo.set(Number(this.#line()), this.#peek());
        return true;
      case 'q':
        this.#memo.set(this.#uint8(), this.#peek());
        return true;
      case 'r':
        this.#memo.set(this.#uint32(), this.#peek());
        return true;
      case '\x94':
        this.#memo.set(this.#memo.size, this.#peek());
        return true;
      case 'g':
        return this.#recall(Number(this.#line()));
      case 'h':
        return this.#recall(this.#uint8());
      case 'j':
        return this.#recall(this.#uint32());
      default:
        return false;
    }
  }

  #object(opcode: string): boolean {
    switch (opcode) {
      case 'c':
        this.#pushGlobal(this.#line(), this.#line());
        return true;
      case '\x93': {
        const [module, name] = this.#popMany(2);
        if (typeof module !== 'string' || typeof name !== 'string')
          throw this.invalid('a global without a name');
        this.#pushGlobal(module, name);
        return true;
      }
      case 'R': // REDUCE
      case '\x81': {
        // NEWOBJ
        const [callable, args] = this.#popMany(2);
        if (!(callable instanceof Callable) || !Array.isArray(args))
          throw this.invalid('a call of something that is not callable');
        this.#push(callable.call(...args));
        return true;
      }
      case 'b': {
        // BUILD: most attributes mean nothing here, such as a state dict's _metadata
        const state = this.#pop();
        const target = this.#peek();
        if (isStateful(target)) target.setState(state);
        return true;
      }
      case 'Q':
        this.#pushPersistent(this.#pop());
        return true;
      case 'P':
        this.#pushPersistent(this.#line());
        return true;
      default:
        return false;
    }
  }

  #pushGlobal(module: string, name: string): void {
    const allowed = this.#options.global(module, name);
    if (allowed === undefined) {
      const { file } = this.#options;
      throw new FormatError(
        'PICKLE_FORBIDDEN',
        `${file} wants to import ${module}.${name}, which is refused`,
        {
          file,
          value: `${module}.${name}`,
          hint: 'Hotrow reads tensors, containers and numbers only; nothing in the file was executed. Save the state dict by itself: torch.save(model.state_dict(), path)',
        },
      );
    }
    this.#push(typeof allowed === 'function' ? new Callable(allowed) : allowed.value);
  }

  #pushPersistent(id: PickledValue): void {
    const { persistentLoad } = this.#options;
    if (persistentLoad === undefined) throw this.invalid('a persistent id where none is expected');
    this.#push(persistentLoad(id));
  }

  #push(value: PickledValue): void {
    if (typeof value === 'object' && value !== null && ++this.#containers > MAX_CONTAINERS)
      throw this.invalid(`it has more than ${MAX_CONTAINERS} containers`);
    this.#stack.push(value);
  }

  #pop(): PickledValue {
    const value = this.#stack.pop();
    if (value === undefined || value === MARK) throw this.invalid('the stack is empty');
    return value;
  }

  #peek(): PickledValue {
    const value = this.#stack.at(-1);
    if (value === undefined || value === MARK) throw this.invalid('the stack is empty');
    return value;
  }

  #popMany(count: number): PickledValue[] {
    return Array.from({ length: count }, () => this.#pop()).reverse();
  }

  #popMark(): PickledValue[] {
    const mark = this.#stack.lastIndexOf(MARK);
    if (mark < 0) throw this.invalid('there is no mark on the stack');
    const values = this.#stack.splice(mark) as PickledValue[];
    values.shift();
    return values;
  }

  #top<T>(is: (value: unknown) => value is T, what: string): T {
    const value = this.#peek();
    if (!is(value)) throw this.invalid(`${what} was expected`);
    return value;
  }

  #recall(key: number): boolean {
    const value = this.#memo.get(key);
    if (value === undefined) throw this.invalid(`memo ${key} was never written`);
    this.#push(value);
    return true;
  }

  #advance(count: number): number {
    const at = this.#at;
    if (count < 0 || at + count > this.#bytes.length) throw this.invalid('it ends early');
    this.#at += count;
    return at;
  }

  #take(count: number): Uint8Array {
    const at = this.#advance(count);
    return this.#bytes.subarray(at, at + count);
  }

  #uint8(): number {
    return this.#bytes[this.#advance(1)] as number;
  }

  #uint32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  #size64(): number {
    return Number(this.#view.getBigUint64(this.#advance(8), true));
  }

  #utf8(length: number): string {
    return new TextDecoder().decode(this.#take(length));
  }

  /** Up to and without the next newline. */
  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw this.invalid('it ends early');
    const text = latin1(this.#bytes.subarray(this.#at, end));
    this.#at = end + 1;
    return text;
  }

  /** Little-endian two's complement; a number where it fits. */
  #long(length: number): number | bigint {
    let value = 0n;
    const bytes = this.#take(length);
    if (length > 1024) throw this.invalid('an integer of absurd size');
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number);
    if (length > 0 && (bytes[length - 1] as number) >= 0x80) value -= 1n << BigInt(8 * length);
    return narrow(value);
  }

  #decimal(text: string): number | bigint {
    if (!/^[+-]?\d{1,2000}$/.test(text)) throw this.invalid('an integer that is none');
    return narrow(BigInt(text));
  }
}

const isMap = (value: unknown): value is Map<PickledValue, PickledValue> => value instanceof Map;

function pairs(
  map: Map<PickledValue, PickledValue>,
  values: readonly PickledValue[],
): Map<PickledValue, PickledValue> {
  if (values.length % 2 !== 0) throw new Error('a key without a value');
  for (let i = 0; i < values.length; i += 2)
    map.set(values[i] as PickledValue, values[i + 1] as PickledValue);
  return map;
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
