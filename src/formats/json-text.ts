/**
 * The one place that makes values of JSON texts from files. It refuses what JSON.parse would take at any price (nesting and
 * values without end, which end the process later) and what it does not tell (a key that stands twice, of which it keeps the
 * last).
 */

/** Lists and objects within each other; no format of ours has more than ten. */
const MAX_DEPTH = 64;
/** Lists and objects take a hundred bytes or more, from two of the text. */
const MAX_CONTAINERS = 1 << 22;
/** Members and items; sets and maps hold no more than this. */
const MAX_VALUES = (1 << 24) - 2;

/** What is wrong with a text. */
export class JsonFault extends Error {
  constructor(
    message: string,
    /** The key that stands twice in one object. */
    readonly duplicate?: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The value of a text. @throws JsonFault. */
export function parseJson(text: string): unknown {
  const duplicate = lookThrough(text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new JsonFault((cause as Error).message.slice(0, 200), undefined, { cause });
  }
  if (duplicate === undefined) return value;
  const shown = JSON.stringify(duplicate.slice(0, 100));
  throw new JsonFault(`the key ${shown} stands twice in one object`, duplicate);
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * Bounds a text that may be JSON, or several values of it one after the other. Gives the first key that one of its objects has
 * twice, where it is JSON. @throws JsonFault.
 */
export function lookThrough(text: string): string | undefined {
  const around = new Around();
  let [containers, values] = [0, 0];
  let duplicate: string | undefined;
  // A string is a key when a colon follows it.
  let [begin, end, escaped] = [0, 0, false];
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE:
        begin = i++;
        escaped = false;
        for (let at = text.charCodeAt(i); at !== QUOTE && i < text.length; at = text.charCodeAt(++i)) {
          if (at !== BACKSLASH) continue;
          escaped = true;
          i++;
        }
        end = i;
        break;
      case COMMA:
        if (++values > MAX_VALUES) throw new JsonFault(`it has more than ${MAX_VALUES} values`);
        break;
      case COLON: {
        if (!around.isObject || duplicate !== undefined) break;
        const key = escaped ? unescaped(text.slice(begin, end + 1)) : text.slice(begin + 1, end);
        if (!around.add(key)) duplicate = key;
        break;
      }
      case OPEN_LIST:
      case OPEN_OBJECT:
        if (++containers > MAX_CONTAINERS)
          throw new JsonFault(`it has more than ${MAX_CONTAINERS} lists and objects`);
        around.open(text.charCodeAt(i) === OPEN_OBJECT);
        if (around.depth > MAX_DEPTH)
          throw new JsonFault(`its lists and objects are nested more than ${MAX_DEPTH} deep`);
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        around.close();
        break;
    }
  }
  return duplicate;
}

/** So many keys are compared one by one: a set takes longer to make. */
const FEW = 8;
const LIST = -1;

/** The lists and objects around a place, and the keys so far of the objects: in one list, since most texts are short. */
class Around {
  /** Where the keys of each begin in `#keys`; of a list, `LIST`. */
  readonly #begins: number[] = [];
  readonly #keys: string[] = [];
  /** By depth: the keys of objects that have many. */
  readonly #all = new Map<number, Set<string>>();

  get depth(): number {
    return this.#begins.length;
  }

  /** Whether the innermost is an object. */
  get isObject(): boolean {
    return this.depth > 0 && this.#begins[this.depth - 1] !== LIST;
  }

  open(isObject: boolean): void {
    this.#begins.push(isObject ? this.#keys.length : LIST);
  }

  close(): void {
    if (this.isObject) {
      this.#keys.length = this.#begins[this.depth - 1] as number;
      this.#all.delete(this.depth);
    }
    this.#begins.pop();
  }

  /** A key of the innermost object; false: it is there already. */
  add(key: string): boolean {
    const many = this.#all.size === 0 ? undefined : this.#all.get(this.depth);
    if (many !== undefined) {
      if (many.has(key)) return false;
      many.add(key);
      return true;
    }
    const begin = this.#begins[this.depth - 1] as number;
    for (let i = begin; i < this.#keys.length; i++) if (this.#keys[i] === key) return false;
    if (this.#keys.push(key) > begin + FEW) this.#all.set(this.depth, new Set(this.#keys.slice(begin)));
    return true;
  }
}

/** The text of a string as JSON writes it; itself where it is none. */
function unescaped(string: string): string {
  try {
    return String(JSON.parse(string));
  } catch {
    return string;
  }
}
