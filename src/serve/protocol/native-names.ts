/** What the names of tensors say, worked out for a model before requests come. */
import { parseJson } from '../../formats/json-text.ts';
import type { FeatureInput } from '../../model/inputs.ts';
import { TableNumbers } from '../../model/request/feature-names.ts';

/** Tensors of one feature, or of many in one piece: those whose names end alike. */
export interface NativeGroup {
  readonly perUser: boolean;
  /** The table that `indices` of these names are for; undefined: none, or not one that can stay as it is. */
  readonly rowsTable: number | undefined;
  /** The same of `values`. */
  readonly idsTable: number | undefined;
  /** Whether these tensors stand for many tables. */
  readonly inPiece: boolean;
}

export const NATIVE_ROLES = ['indices', 'values', 'offsets', 'lengths', 'weights'] as const;
export type NativeRole = (typeof NATIVE_ROLES)[number];

/** What a tensor is. */
export interface NativePlace {
  readonly group: NativeGroup;
  readonly role: NativeRole;
}

/** Texts of features' names that are remembered, and how long each may be. */
const MAX_ORDERS = 64;
const MAX_ORDER_CHARACTERS = 1 << 16;

/** The names of a model's tensors. */
export class NativeNames {
  /** By the tensor's name. */
  readonly places: ReadonlyMap<string, NativePlace>;
  readonly #features: readonly FeatureInput[];
  readonly #numbers: TableNumbers;
  /** The tables in the order of a text of names; undefined: it is none. */
  readonly #orders = new Map<string, readonly number[] | undefined>();
  readonly #inOrder: readonly number[];

  constructor(features: readonly FeatureInput[]) {
    this.#features = features;
    this.#numbers = new TableNumbers(features);
    this.#inOrder = features.map((_, table) => table);
    const places = new Map<string, NativePlace>();
    const names = new Set(features.flatMap(({ name }, table) => [name, String(table)]));
    names.delete('');
    for (const prefix of ['', 'user.']) {
      const add = (end: string, group: Omit<NativeGroup, 'perUser'>) => {
        const own = { ...group, perUser: prefix !== '' };
        for (const role of NATIVE_ROLES) places.set(`${prefix}${role}${end}`, { group: own, role });
      };
      for (const name of names)
        add(`.${name}`, {
          rowsTable: this.#table(name, 'rows'),
          idsTable: this.#table(name, 'ids'),
          inPiece: false,
        });
      add('', { rowsTable: undefined, idsTable: undefined, inPiece: true });
    }
    this.places = places;
  }

  #table(name: string, kind: 'rows' | 'ids'): number | undefined {
    try {
      return this.#numbers.of(name, kind, name);
    } catch {
      return undefined;
    }
  }

  /** The tables that a JSON list of features' names gives; without it, all in order. Undefined: they are not the model's. */
  order(json: string | undefined): readonly number[] | undefined {
    if (json === undefined) return this.#inOrder;
    if (json.length > MAX_ORDER_CHARACTERS) return undefined;
    if (this.#orders.has(json)) return this.#orders.get(json);
    const order = this.#parsedOrder(json);
    if (this.#orders.size >= MAX_ORDERS) this.#orders.clear();
    this.#orders.set(json, order);
    return order;
  }

  #parsedOrder(json: string): readonly number[] | undefined {
    let names: unknown;
    try {
      names = parseJson(json);
    } catch {
      return undefined;
    }
    if (!Array.isArray(names) || names.length > this.#features.length) return undefined;
    const order = names.map((name) => (typeof name === 'string' ? this.#table(name, 'ids') : undefined));
    return order.every((table) => table !== undefined) ? order : undefined;
  }
}
