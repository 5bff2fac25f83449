/**
 * A pickle reader that executes nothing. It knows numbers, strings, containers and the few globals that its caller
 * allows by name; any other global is refused before anything else happens.
 */
import { FormatError } from '../errors.ts';
import { latin1, PickleCursor } from './pickle-cursor.ts';
import { PickleStack } from './pickle-stack.ts';
import { type Global, isMap, isSet, isStateful, type PickledValue, setPairs } from './pickled-value.ts';

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

/** More operations than any state dict takes; keeps hostile files from filling memory. */
const MAX_OPERATIONS = 20_000_000;

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
  readonly #stack = new PickleStack();
  #opcodeAt = 0;
  #operations = 0;

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
      if (++this.#operations > MAX_OPERATIONS)
        throw this.invalid(`it has more than ${MAX_OPERATIONS} operations`);
      const opcode = String.fromCharCode(this.#cursor.uint8());
      if (opcode === '.') return { value: this.#stack.pop(), end: this.#cursor.at };
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
        this.#stack.mark();
        return;
      case '0':
        this.#stack.pop();
        return;
      case '1':
        this.#stack.popMark();
        return;
      case '2':
        this.#stack.duplicate();
        return;
      case 'N':
        this.#stack.push(null);
        return;
      case '\x88':
        this.#stack.push(true);
        return;
      case '\x89':
        this.#stack.push(false);
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
        this.#stack.push(this.#cursor.uint8());
        return true;
      case 'M':
        this.#stack.push(this.#cursor.uint16());
        return true;
      case 'J':
        this.#stack.push(this.#cursor.int32());
        return true;
      case 'G':
        this.#stack.push(this.#cursor.float64());
        return true;
      case '\x8a': // LONG1
        this.#stack.push(this.#cursor.long(this.#cursor.uint8()));
        return true;
      case '\x8b': // LONG4
        this.#stack.push(this.#cursor.long(this.#cursor.int32()));
        return true;
      case 'I': {
        const text = this.#cursor.line();
        this.#stack.push(text === '00' ? false : text === '01' ? true : this.#cursor.decimal(text));
        return true;
      }
      case 'L':
        this.#stack.push(this.#cursor.decimal(this.#cursor.line().replace(/L$/, '')));
        return true;
      case 'F': {
        const value = Number(this.#cursor.line());
        this.#stack.push(value);
        return true;
      }
      default:
        return false;
    }
  }

  #text(opcode: string): boolean {
    switch (opcode) {
      case 'X': // BINUNICODE
        this.#stack.push(this.#cursor.utf8(this.#cursor.uint32()));
        return true;
      case '\x8c': // SHORT_BINUNICODE
        this.#stack.push(this.#cursor.utf8(this.#cursor.uint8()));
        return true;
      case '\x8d': // BINUNICODE8
        this.#stack.push(this.#cursor.utf8(this.#cursor.size64()));
        return true;
      case 'V':
        this.#stack.push(this.#cursor.line());
        return true;
      case 'T': // BINSTRING
        this.#stack.push(latin1(this.#cursor.take(this.#cursor.uint32())));
        return true;
      case 'U': // SHORT_BINSTRING
        this.#stack.push(latin1(this.#cursor.take(this.#cursor.uint8())));
        return true;
      case 'S': // STRING, quoted
        this.#stack.push(this.#cursor.line().replace(/^(['"])(.*)\1$/s, '$2'));
        return true;
      case 'B':
        this.#stack.push(this.#cursor.take(this.#cursor.uint32()));
        return true;
      case 'C':
        this.#stack.push(this.#cursor.take(this.#cursor.uint8()));
        return true;
      case '\x8e': // BINBYTES8
      case '\x96': // BYTEARRAY8
        this.#stack.push(this.#cursor.take(this.#cursor.size64()));
        return true;
      default:
        return false;
    }
  }

  #container(opcode: string): boolean {
    switch (opcode) {
      case ')':
      case ']':
        this.#stack.push([]);
        return true;
      case '}':
        this.#stack.push(new Map());
        return true;
      case '\x8f':
        this.#stack.push(new Set());
        return true;
      case 't':
      case 'l':
        this.#stack.push(this.#stack.popMark());
        return true;
      case '\x91': // FROZENSET
        this.#stack.push(new Set(this.#stack.popMark()));
        return true;
      case 'd':
        this.#stack.push(setPairs(new Map(), this.#stack.popMark()));
        return true;
      case '\x85':
        this.#stack.push([this.#stack.pop()]);
        return true;
      case '\x86':
        this.#stack.push(this.#stack.popMany(2));
        return true;
      case '\x87':
        this.#stack.push(this.#stack.popMany(3));
        return true;
      case 'a': {
        const value = this.#stack.pop();
        this.#stack.top(Array.isArray, 'a list').push(value);
        return true;
      }
      case 'e': {
        const values = this.#stack.popMark();
        const list = this.#stack.top(Array.isArray, 'a list');
        for (const value of values) list.push(value);
        return true;
      }
      case 's': {
        const [key, value] = this.#stack.popMany(2) as [PickledValue, PickledValue];
        this.#stack.top(isMap, 'a dict').set(key, value);
        return true;
      }
      case 'u': {
        const values = this.#stack.popMark();
        setPairs(this.#stack.top(isMap, 'a dict'), values);
        return true;
      }
      case '\x90': {
        const values = this.#stack.popMark();
        const set = this.#stack.top(isSet, 'a set');
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
        this.#stack.memoise(Number(this.#cursor.line()));
        return true;
      case 'q':
        this.#stack.memoise(this.#cursor.uint8());
        return true;
      case 'r':
        this.#stack.memoise(this.#cursor.uint32());
        return true;
      case '\x94':
        this.#stack.memoiseNext();
        return true;
      case 'g':
        this.#stack.recall(Number(this.#cursor.line()));
        return true;
      case 'h':
        this.#stack.recall(this.#cursor.uint8());
        return true;
      case 'j':
        this.#stack.recall(this.#cursor.uint32());
        return true;
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
        const [module, name] = this.#stack.popMany(2);
        if (typeof module !== 'string' || typeof name !== 'string')
          throw this.invalid('a global without a name');
        this.#pushGlobal(module, name);
        return true;
      }
      case 'R': // REDUCE
      case '\x81': {
        // NEWOBJ
        const [callable, args] = this.#stack.popMany(2);
        if (!(callable instanceof Callable) || !Array.isArray(args))
          throw this.invalid('a call of something that is not callable');
        this.#stack.push(callable.call(...args));
        return true;
      }
      case 'b': {
        // BUILD: most attributes mean nothing here, such as a state dict's _metadata
        const state = this.#stack.pop();
        const target = this.#stack.peek();
        if (isStateful(target)) target.setState(state);
        return true;
      }
      case 'Q':
        this.#pushPersistent(this.#stack.pop());
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
    this.#stack.push(typeof allowed === 'function' ? new Callable(allowed) : allowed.value);
  }

  #pushPersistent(id: PickledValue): void {
    const { persistentLoad } = this.#options;
    if (persistentLoad === undefined) throw this.invalid('a persistent id where none is expected');
    this.#stack.push(persistentLoad(id));
  }
}
