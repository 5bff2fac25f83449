/** The order of a model's tables, which is the order of its features, and where it comes from. */
import { ModelError } from '../../errors.ts';

/**
 * How the tables' order is found.
 * - `saved`: the order in which they were saved is that of the model (what torch.save writes).
 * - `unsaved`: the file sorts its tensors, so that only numbers in names can tell (safetensors).
 * - a list of names: known, from a description or from metadata that Hotrow wrote.
 */
export type TableOrder = 'saved' | 'unsaved' | { readonly names: readonly string[]; readonly from: string };

export interface OrderedTables<T> {
  readonly tables: readonly T[];
  /** Where the order comes from, for people. */
  readonly source: string;
  /** Whether something else may contradict it. */
  readonly note?: string;
}

/** The tables by the number that tells their names apart, where all else in them is the same; undefined: it is not. */
function byNumber<T extends { readonly name: string }>(tables: readonly T[]): Numbered<T> | undefined {
  // Text, number, text, … of each name.
  const parts = tables.map(({ name }) => name.split(/(\d+)/));
  const first = parts[0] ?? [];
  const differing = first.flatMap((part, i) => (parts.every((other) => other[i] === part) ? [] : [i]));
  const [at] = differing;
  const alike = parts.every(({ length }) => length === first.length);
  if (!alike || at === undefined || at % 2 === 0 || differing.length > 1) return undefined;
  const numbered = tables.map((table, i) => ({ table, number: Number(parts[i]?.[at]) }));
  const sorted = numbered.sort((a, b) => a.number - b.number);
  const start = sorted[0]?.number ?? 0;
  return {
    tables: sorted.map(({ table }) => table),
    complete: start <= 1 && sorted.every(({ number }, i) => number === start + i),
  };
}

interface Numbered<T> {
  readonly tables: readonly T[];
  /** Whether the numbers are 0 … T − 1 or 1 … T. */
  readonly complete: boolean;
}

/**
 * Puts tables, given in the order of their file, into the model's order.
 * @throws ModelError ARCHITECTURE_AMBIGUOUS where nothing says what it is, CHECKPOINT_INCONSISTENT for an order of other tables.
 */
export function orderTables<T extends { readonly name: string }>(
  tables: readonly T[],
  order: TableOrder,
): OrderedTables<T> {
  if (typeof order === 'object') return byNames(tables, order.names, order.from);
  const sorted = byNumber(tables);
  if (order === 'saved') {
    const source = 'the order in which they were saved';
    if (sorted === undefined || sorted.tables.every((table, i) => table === tables[i]))
      return { tables, source };
    const names = tables.map(({ name }) => name);
    return {
      tables,
      source,
      note: `tables are in the order in which they were saved (${few(names)}), not in that of their numbers`,
    };
  }
  if (tables.length <= 1) return { tables, source: 'there is one' };
  if (sorted?.complete) {
    return {
      tables: sorted.tables,
      source: 'the numbers in their names',
      note: `tables are in the order of their numbers (${few(sorted.tables.map(({ name }) => name))}): the file does not keep the model's`,
    };
  }
  throw new ModelError(
    'ARCHITECTURE_AMBIGUOUS',
    `nothing says in which order the model reads its ${tables.length} tables (${few(tables.map(({ name }) => name))}): the file sorts its tensors, and their names are not numbered 0 to ${tables.length - 1}`,
    {
      hint: 'write a model description and put its features in order: hotrow inspect MODEL --write-description FILE; or save a .pt with torch.save, which keeps the order',
    },
  );
}

function byNames<T extends { readonly name: string }>(
  tables: readonly T[],
  names: readonly string[],
  from: string,
): OrderedTables<T> {
  const known = new Map(tables.map((table) => [table.name, table]));
  const unknown = names.find((name) => !known.has(name));
  const missing = tables.find(({ name }) => !names.includes(name));
  if (unknown !== undefined || missing !== undefined || new Set(names).size < names.length) {
    const why =
      unknown !== undefined
        ? `table ${unknown} is not in the checkpoint`
        : missing !== undefined
          ? `table ${missing.name} has no place`
          : 'a table stands twice';
    throw new ModelError('CHECKPOINT_INCONSISTENT', `the order of tables in ${from} does not fit: ${why}`, {
      tensor: unknown ?? missing?.name ?? names[0] ?? '',
    });
  }
  return { tables: names.map((name) => known.get(name) as T), source: from };
}

function few(names: readonly string[]): string {
  return names.length <= 6 ? names.join(', ') : `${names.slice(0, 3).join(', ')} … ${names.at(-1)}`;
}
