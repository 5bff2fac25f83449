/** A model's features, each reading a table, and what their raw ids mean. */
import type { EmbeddingTable, PoolingMode } from '../embedding/bag.ts';
import { badDescription, type DescribedFeature, type ModelDescription } from './description/description.ts';
import { defaultInputs, type FeatureInput, type IdRule, type ModelInputs } from './inputs.ts';

/** A table of the checkpoint, whatever reads it. */
export type StoredTable = Omit<EmbeddingTable, 'mode' | 'paddingIdx' | 'pruned'>;

export interface PoolingDefaults {
  readonly mode?: PoolingMode;
  readonly paddingIdx?: number;
}

/**
 * An entry for each feature, in the description's order, or one for each table. Features on one table have its weight.
 * @throws ModelError DESCRIPTION_INVALID for tables that are not there, or are read by no feature.
 */
export function featureTables(
  tables: readonly StoredTable[],
  description: Pick<ModelDescription, 'features' | 'tables'>,
  { mode = 'sum', paddingIdx }: PoolingDefaults,
): EmbeddingTable[] {
  checkTables(tables, description);
  const { features } = description;
  const padding = paddingIdx === undefined ? {} : { paddingIdx };
  if (features === undefined) return tables.map((table) => ({ ...table, mode, ...padding }));
  const byName = new Map(tables.map((table) => [table.name, table]));
  const known = features.map((feature, i) => {
    const table = byName.get(feature.table);
    if (table !== undefined) return { feature, table };
    throw badDescription(
      `/features/${i}/table`,
      `names ${JSON.stringify(feature.table)}, which is no table of the checkpoint`,
      `its tables are ${some([...byName.keys()])}`,
    );
  });
  const read = new Set(known.map(({ table }) => table));
  const unread = tables.find((table) => !read.has(table));
  if (unread !== undefined) {
    throw badDescription('/features', `leaves table ${JSON.stringify(unread.name)} of the checkpoint unread`);
  }
  return known.map(({ feature, table }, i): EmbeddingTable => {
    const { paddingRow, pruned, pooling } = feature;
    checkRows(feature, table, `/features/${i}`);
    return {
      ...table,
      name: feature.name,
      mode: pooling ?? mode,
      ...(paddingRow === undefined ? padding : { paddingIdx: paddingRow }),
      ...(pruned === true ? { pruned } : {}),
    };
  });
}

/** What the description says of a table's rows is so. @throws ModelError DESCRIPTION_INVALID where it is not. */
function checkTables(
  tables: readonly StoredTable[],
  { tables: described = [] }: Pick<ModelDescription, 'tables'>,
): void {
  const byName = new Map(tables.map((table) => [table.name, table]));
  described.forEach(({ name, dim, rowFormat }, i) => {
    const table = byName.get(name);
    if (table === undefined) return;
    const rows = `the rows of ${JSON.stringify(name)}`;
    if (dim !== undefined && dim !== table.dim)
      throw badDescription(`/tables/${i}/dim`, `is ${dim}, and ${rows} have ${table.dim} elements`);
    if (rowFormat !== undefined && rowFormat !== table.rowFormat)
      throw badDescription(`/tables/${i}/rowFormat`, `is ${rowFormat}, and ${rows} are ${table.rowFormat}`);
  });
}

/** Rows that a feature names are rows of its table. */
function checkRows(
  { paddingRow, unknown, ids, missing, pruned, pooling = 'sum' }: DescribedFeature,
  { name, rows, rowWeights }: StoredTable,
  at: string,
): void {
  const check = (key: string, row: number | undefined, limit: number) => {
    if (row !== undefined && row >= limit)
      throw badDescription(`${at}/${key}`, `is ${row}, and table ${JSON.stringify(name)} has ${rows} rows`);
  };
  check('paddingRow', paddingRow, rows);
  if (typeof unknown === 'object') check('unknown/row', unknown.row, rows);
  if (typeof ids === 'object' && 'modulus' in ids) check('ids/modulus', ids.modulus, rows + 1);
  if (typeof ids === 'object' && 'vocabulary' in ids && ids.vocabulary.length > rows) {
    throw badDescription(
      `${at}/ids/vocabulary`,
      `has ${ids.vocabulary.length} ids, and table ${JSON.stringify(name)} has ${rows} rows`,
    );
  }
  if ((ids ?? 'rows') === 'rows' && typeof missing === 'object') {
    for (const row of missing.ids.map(Number)) {
      check('missing/ids', row, rows);
      if (row < 0 && !(pruned && row === -1))
        throw badDescription(`${at}/missing/ids`, `has ${row}, which is no row`);
    }
  }
  if (rowWeights !== undefined && pooling !== 'sum')
    throw badDescription(`${at}/pooling`, `is ${pooling}, and the table's learned weights go with sum alone`);
}

/**
 * The model's inputs as the description has them.
 * @throws ModelError DESCRIPTION_INVALID where it does not fit the model.
 */
export function describedInputs(
  tables: readonly EmbeddingTable[],
  denseFeatures: number,
  { features, dense }: ModelDescription,
): ModelInputs {
  const plain = defaultInputs(
    tables.map(({ name }) => name),
    denseFeatures,
  );
  if (dense !== undefined && dense.length !== denseFeatures)
    throw badDescription('/dense', `has ${dense.length} numbers, the model takes ${denseFeatures}`);
  return {
    features: features === undefined ? plain.features : features.map(featureInput),
    dense: dense ?? plain.dense,
  };
}

function featureInput(feature: DescribedFeature): FeatureInput {
  const { name, table, unknown = 'error', missing = 'error', weighted, longestBag } = feature;
  return {
    name,
    ...(table === name ? {} : { table }),
    ids: idRule(feature.ids),
    unknown,
    missing,
    ...(weighted === undefined ? {} : { weighted }),
    ...(longestBag === undefined ? {} : { longestBag }),
  };
}

function idRule(ids: DescribedFeature['ids']): IdRule {
  if (ids === undefined || ids === 'rows') return { kind: 'rows' };
  if ('hash' in ids) return { kind: 'hash', hash: ids.hash, seed: ids.seed ?? 0, modulus: ids.modulus };
  if (typeof ids.vocabulary === 'string') throw new TypeError('the vocabulary was not read');
  return { kind: 'vocabulary', values: ids.vocabulary };
}

const some = (names: readonly string[]) =>
  names.slice(0, 5).join(', ') + (names.length > 5 ? ` … (${names.length})` : '');
