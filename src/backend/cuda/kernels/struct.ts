/** Structs that the host and kernels share: each is written once, and is its type, its encoder and what the kernel's header must say. */
import { putWord } from '../../words.ts';

/** An address in device memory; 0: none. As a number, which sums faster, it is exact below 2^53, where they all lie. */
export type Address = bigint | number;

/** What a field holds: an address, an integer, or nothing: what rounds a struct up, and is 0. */
type FieldKind = 'address' | 'integer' | 'unused';
type Fields = Readonly<Record<string, FieldKind>>;

type ValuesOf<F extends Fields> = {
  readonly [N in keyof F as F[N] extends 'unused' ? never : N]: F[N] extends 'address' ? Address : number;
};

/** The fields of a struct that `struct` describes, as its encoder takes them. */
export type FieldsOf<S> = S extends Struct<infer F> ? ValuesOf<F> : never;

/** A struct of a header in kernels/cuda, each of whose fields is one 64-bit word. */
export class Struct<F extends Fields = Fields> {
  readonly #names: readonly string[];
  /** 64-bit words. */
  readonly words: number;
  readonly bytes: number;
  /** The word at which each field lies. */
  readonly at: Readonly<Record<keyof F, number>>;

  constructor(
    /** In namespace `hotrow`. */
    readonly name: string,
    readonly header: string,
    /** In their order, by the header's names in camelCase. */
    readonly fields: F,
  ) {
    const entries = Object.entries(fields);
    this.#names = entries.flatMap(([name, kind]) => (kind === 'unused' ? [] : [name]));
    if (entries.slice(0, this.#names.length).some(([, kind]) => kind === 'unused'))
      throw new TypeError(`${name}: an unused field lies between others`);
    this.words = entries.length;
    this.bytes = entries.length * BigInt64Array.BYTES_PER_ELEMENT;
    this.at = Object.fromEntries(entries.map(([name], at) => [name, at])) as Record<keyof F, number>;
  }

  encode(values: ValuesOf<F>): BigInt64Array {
    return this.encodeAll([values]);
  }

  /** An array of the struct. */
  encodeAll(list: readonly ValuesOf<F>[]): BigInt64Array {
    const encoded = new BigInt64Array(list.length * this.words);
    const halves = new Int32Array(encoded.buffer);
    for (let i = 0; i < list.length; i++) this.#put(halves, i * this.words, list[i] as ValuesOf<F>);
    return encoded;
  }

  /** Reads element `index` of an array of the struct. */
  decode(encoded: BigInt64Array, index: number): Record<keyof ValuesOf<F>, bigint> {
    const start = index * this.words;
    const fields = this.#names.map((name, i) => [name, encoded[start + i]]);
    return Object.fromEntries(fields) as Record<keyof ValuesOf<F>, bigint>;
  }

  #put(into: Int32Array, start: number, values: ValuesOf<F>): void {
    const own = values as Readonly<Record<string, Address>>;
    for (let i = 0; i < this.#names.length; i++) {
      putWord(into, start + i, own[this.#names[i] as string] as Address);
    }
  }
}

export function struct<const F extends Fields>(name: string, header: string, fields: F): Struct<F> {
  return new Struct(name, header, fields);
}
