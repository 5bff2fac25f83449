/**
 * A pickle reader that executes nothing. It knows numbers, strings, containers and the few globals that its caller
 * allows by name; any other global is refused before anything else happens.
 */
import { FormatError } from '../errors.ts';
import { latin1, PickleCursor } from './pickle-cursor.ts';

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
  readonly #cursor: PickleCursor;
  readonly #options: UnpickleOptions;
  readonly #stack: StackValue[] = [];
  readonly #memo = new Map<number, PickledValue>();
  #opcodeAt = 0;
  #objects = 0;
  #containers = 0;

  constructor(bytes: Uint8Array, options: UnpickleOptions) {
    this.#options = options;
    this.#cursor = new PickleCursor(bytes, options.offset ?? 0);
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
      this.#opcodeAt = this.#cursor.at;
      if (++this.#objects > MAX_OBJECTS) throw this.invalid(`it has more than ${MAX_OBJECTS} operations`);
      const opcode = String.fromCharCode(this.#cursor.uint8());
      if (opcode === '.') return { value: this.#pop(), end: this.#cursor.at };
      this.#execute(opcode);
    }
  }

  #execute(opcode: string): void {
    switch (opcode) {
      case '\x80': // PROTO
        if (this.#cursor.uint8() > 5) throw this.invalid('its protocol is newer than 5');
        return;
      case '\x95': // FRAME
        this.#cursor.take(8);
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
        this.#push(this.#cursor.uint8());
        return true;
      case 'M':
        this.#push(this.#cursor.uint16());
        return true;
      case 'J':
        this.#push(this.#cursor.int32());
        return true;
      case 'G':
        this.#push(this.#cursor.float64());
        return true;
      case '\x8a': // LONG1
        this.#push(this.#cursor.long(this.#cursor.uint8()));
        return true;
      case '\x8b': // LONG4
        this.#push(this.#cursor.long(this.#cursor.int32()));
        return true;
      case 'I': {
        const text = this.#cursor.line();
        this.#push(text === '00' ? false : text === '01' ? true : this.#cursor.decimal(text));
        return true;
      }
      case 'L':
        this.#push(this.#cursor.decimal(this.#cursor.line().replace(/L$/, '')));
        return true;
      case 'F': {
        const value = Number(this.#cursor.line());
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
        this.#push(this.#cursor.utf8(this.#cursor.uint32()));
        return true;
      case '\x8c': // SHORT_BINUNICODE
        this.#push(this.#cursor.utf8(this.#cursor.uint8()));
        return true;
      case '\x8d': // BINUNICODE8
        this.#push(this.#cursor.utf8(this.#cursor.size64()));
        return true;
      case 'V':
        this.#push(this.#cursor.line());
        return true;
      case 'T': // BINSTRING
        this.#push(latin1(this.#cursor.take(this.#cursor.uint32())));
        return true;
      case 'U': // SHORT_BINSTRING
        this.#push(latin1(this.#cursor.take(this.#cursor.uint8())));
        return true;
      case 'S': // STRING, quoted
        this.#push(this.#cursor.line().replace(/^(['"])(.*)\1$/s, '$2'));
        return true;
      case 'B':
        this.#push(this.#cursor.take(this.#cursor.uint32()));
        return true;
      case 'C':
        this.#push(this.#cursor.take(this.#cursor.uint8()));
        return true;
      case '\x8e': // BINBYTES8
      case '\x96': // BYTEARRAY8
        this.#push(this.#cursor.take(this.#cursor.size64()));
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
        this.#memo.set(Number(this.#cursor.line()), this.#peek());
        return true;
      case 'q':
        this.#memo.set(this.#cursor.uint8(), this.#peek());
        return true;
      case 'r':
        this.#memo.set(this.#cursor.uint32(), this.#peek());
        return true;
      case '\x94':
        this.#memo.set(this.#memo.size, this.#peek());
        return true;
      case 'g':
        return this.#recall(Number(this.#cursor.line()));
      case 'h':
        return this.#recall(this.#cursor.uint8());
      case 'j':
        return this.#recall(this.#cursor.uint32());
      default:
        return false;
    }
  }

  #object(opcode: string): boolean {
    switch (opcode) {
      case 'c':
        this.#pushGlobal(this.#cursor.line(), this.#cursor.line());
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
        this.#pushPersistent(this.#cursor.line());
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
