/**
 * A pickle reader that executes and imports nothing. It knows numbers, strings, containers and the few globals that its
 * caller knows; whatever else the pickle names or makes stands in its value as a placeholder.
 */
import { FormatError } from '../../errors.ts';
import { PickleCursor } from './pickle-cursor.ts';
import { readLiteral } from './pickle-literals.ts';
import { PickleStack } from './pickle-stack.ts';
import {
  InertObject,
  isMap,
  isStateful,
  PickledGlobal,
  type PickledValue,
  setPairs,
} from './pickled-value.ts';

export interface UnpickleOptions {
  /** Named in errors. */
  readonly file: string;
  /** Where the pickle begins. */
  readonly offset?: number;
  /** What a global stands for; undefined leaves a placeholder of it, and of all that it makes. */
  readonly global: (module: string, name: string) => PickledValue | undefined;
  /** Resolves a persistent id, e.g. a storage. */
  readonly persistentLoad?: (id: PickledValue) => PickledValue;
}

/** More operations than any state dict takes; keeps hostile files from filling memory. */
const MAX_OPERATIONS = 20_000_000;

/** Longer than any name of a class; looking names up takes time. */
const MAX_NAME = 1000;

/**
 * Reads one pickle.
 * @throws FormatError PICKLE_INVALID naming the byte; PICKLE_FORBIDDEN for what lies outside of the file.
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

  #forbidden(message: string): FormatError {
    const { file } = this.#options;
    return new FormatError('PICKLE_FORBIDDEN', `${file}: the pickle ${message}`, {
      file,
      position: this.#opcodeAt,
    });
  }

  run(): { value: PickledValue; end: number } {
    for (;;) {
      this.#opcodeAt = this.#cursor.at;
      if (++this.#operations > MAX_OPERATIONS)
        throw this.invalid(`it has more than ${MAX_OPERATIONS} operations`);
      const opcode = String.fromCharCode(this.#cursor.uint8());
      if (opcode === '.') return { value: this.#stack.pop(), end: this.#cursor.at };
      const literal = readLiteral(opcode, this.#cursor);
      if (literal !== undefined) this.#stack.push(literal);
      else if (!this.#move(opcode) && !this.#container(opcode) && !this.#object(opcode))
        throw this.invalid(`opcode 0x${opcode.charCodeAt(0).toString(16)} is unknown`);
    }
  }

  /** Opcodes that move what is there, and those about the pickle itself. */
  #move(opcode: string): boolean {
    switch (opcode) {
      case '\x80': // PROTO
        if (this.#cursor.uint8() > 5) throw this.invalid('its protocol is newer than 5');
        return true;
      case '\x95': // FRAME
        this.#cursor.take(8);
        return true;
      case '(':
        this.#stack.mark();
        return true;
      case '0':
        this.#stack.pop();
        return true;
      case '1':
        this.#stack.popMark();
        return true;
      case '2':
        this.#stack.duplicate();
        return true;
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
      case 'a':
        this.#append([this.#stack.pop()]);
        return true;
      case 'e': // APPENDS
      case '\x90': // ADDITEMS
        this.#append(this.#stack.popMark());
        return true;
      case 's':
        this.#setItems(this.#stack.popMany(2));
        return true;
      case 'u':
        this.#setItems(this.#stack.popMark());
        return true;
      default:
        return false;
    }
  }

  /** To the list or set on top, or to the placeholder of one. */
  #append(values: readonly PickledValue[]): void {
    const target = this.#stack.peek();
    if (target instanceof Set) {
      for (const value of values) target.add(value);
      return;
    }
    if (target instanceof InertObject) target.items ??= [];
    const list = target instanceof InertObject ? target.items : target;
    if (!Array.isArray(list)) throw this.invalid('a list or a set was expected');
    for (const value of values) list.push(value);
  }

  /** Into the dict on top, or into the placeholder of one. */
  #setItems(pairs: readonly PickledValue[]): void {
    const target = this.#stack.peek();
    if (target instanceof InertObject) target.entries ??= new Map();
    const map = target instanceof InertObject ? target.entries : target;
    if (!isMap(map)) throw this.invalid('a dict was expected');
    setPairs(map, pairs);
  }

  /** Opcodes that name globals, make objects of them, or refer to what the pickle does not hold. */
  #object(opcode: string): boolean {
    switch (opcode) {
      case 'c':
        this.#stack.push(this.#global(this.#cursor.line(), this.#cursor.line()));
        return true;
      case '\x93': {
        const [module, name] = this.#stack.popMany(2);
        if (typeof module !== 'string' || typeof name !== 'string')
          throw this.invalid('a global without a name');
        this.#stack.push(this.#global(module, name));
        return true;
      }
      case 'R': // REDUCE
      case '\x81': {
        // NEWOBJ
        const [callable, args] = this.#stack.popMany(2);
        this.#call(callable, args);
        return true;
      }
      case '\x92': {
        // NEWOBJ_EX
        const [callable, args, named] = this.#stack.popMany(3);
        if (!isMap(named)) throw this.invalid('named arguments that are no dict');
        this.#call(callable, args, named);
        return true;
      }
      case 'i': {
        // INST
        const callable = this.#global(this.#cursor.line(), this.#cursor.line());
        this.#call(callable, this.#stack.popMark());
        return true;
      }
      case 'o': {
        // OBJ
        const [callable, ...args] = this.#stack.popMark();
        this.#call(callable, args);
        return true;
      }
      case 'b': {
        // BUILD: attributes of a container mean nothing here, such as a state dict's _metadata
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
      case '\x82':
      case '\x83':
      case '\x84':
        throw this.#forbidden(
          'names a class by a number of copyreg, which only the program that wrote it knows',
        );
      case '\x97':
      case '\x98':
        throw this.#forbidden('leaves buffers outside of the file (protocol 5, out of band)');
      default:
        return false;
    }
  }

  #global(module: string, name: string): PickledValue {
    if (module.length + name.length > MAX_NAME) throw this.invalid('a global of absurd name');
    return this.#options.global(module, name) ?? new PickledGlobal(`${module}.${name}`);
  }

  /**
   * Pushes what a known call gives, or the placeholder of what an unknown one would make. Arguments by name are known to no
   * call; a placeholder keeps them after the others.
   */
  #call(
    callable: PickledValue | undefined,
    args: PickledValue | undefined,
    named?: Map<PickledValue, PickledValue>,
  ): void {
    if (!(callable instanceof PickledGlobal || callable instanceof InertObject) || !Array.isArray(args))
      throw this.invalid('a call of something that is not callable');
    const unnamed = named === undefined || named.size === 0;
    const known = callable instanceof PickledGlobal && unnamed ? callable.call?.(args) : undefined;
    this.#stack.push(known ?? new InertObject(callable.type, unnamed ? args : [args, named]));
  }

  #pushPersistent(id: PickledValue): void {
    const { persistentLoad } = this.#options;
    if (persistentLoad === undefined) throw this.invalid('a persistent id where none is expected');
    this.#stack.push(persistentLoad(id));
  }
}
