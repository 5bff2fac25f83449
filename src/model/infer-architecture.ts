/** A model's architecture from its parameters: names sort them (state-dict.ts), shapes say what they compute, a description the rest. */
import { at } from '../at.ts';
import { BLOCKS } from '../dense/blocks.ts';
import type { LinearLayer } from '../dense/linear.ts';
import type { EmbeddingTable, PoolingMode } from '../embedding/bag.ts';
import { FLOAT_ROW_FORMATS, type RowFormat, rowBytes } from '../embedding/row-format.ts';
import { ModelError } from '../errors.ts';
import { readTensor } from '../stored-tensor.ts';
import { type StoredTensor, type StoredTensors, toFloat32 } from '../tensor.ts';
import type { DlrmArchitecture, ModelArchitecture } from './architecture.ts';
import type { BlockList } from './block-list.ts';
import {
  type CheckpointParts,
  checkpointParts,
  inconsistent,
  type TablePart,
} from './checkpoint/checkpoint-parts.ts';
import { conventionOf, type NamingConvention } from './checkpoint/naming.ts';
import { refuseRelatives } from './checkpoint/near-relatives.ts';
import { parseQuantizedRows, type QuantizedRows } from './checkpoint/quantized-rows.ts';
import { quantizedTables } from './checkpoint/quantized-tables.ts';
import { findStateDict, some } from './checkpoint/state-dict.ts';
import { orderTables, type TableOrder } from './checkpoint/table-order.ts';
import { badDescription, type ModelDescription } from './description/description.ts';
import { checkHead, denseFeaturesOf, generalHead } from './infer-head.ts';
import { type DlrmLayers, featuresOfDot, inferInteraction } from './infer-interaction.ts';
import { describedInputs, featureTables, type StoredTable } from './model-features.ts';

/** What a checkpoint may leave open. */
export interface ArchitectureOverrides {
  /** The interaction, where the top MLP's width fits several. */
  readonly interaction?: 'dot' | 'dot-diagonal' | 'cat';
  /** How bags are pooled, where no description says it; default `sum`, as both code bases train. */
  readonly mode?: PoolingMode;
  /** A row that lookups of every table skip, where no description says it. */
  readonly paddingIdx?: number;
}

export interface ArchitectureOptions extends ArchitectureOverrides {
  /** How the order of tables is found; default: as for files that sort their tensors. */
  readonly order?: TableOrder;
  /** What the model's description says. */
  readonly description?: ModelDescription;
  /** Takes what had to be guessed, by the description's member, with the reason. Default: nothing is guessed. */
  readonly guesses?: Record<string, string>;
}

/**
 * Infers the architecture and checks that everything fits together.
 * @throws ModelError CHECKPOINT_UNRECOGNISED, CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT, ARCHITECTURE_AMBIGUOUS,
 * DESCRIPTION_INVALID naming the member that does not fit.
 */
export async function inferArchitecture(
  tensors: StoredTensors,
  options: ArchitectureOptions = {},
): Promise<ModelArchitecture> {
  const { description = NO_DESCRIPTION } = options;
  const { model, notes: found } = parametersOf(tensors, description);
  const { convention } = model;
  const parts = checkpointParts(model);
  const { tables: ordered, source, note } = orderParts(parts.tables, convention.naming, options);
  const head = generalHead(parts.layers, description);
  const layers = head === undefined ? dlrmLayers(parts.layers, description) : undefined;
  const { tables: readable, notes: quantized } = await quantizedTables(ordered, {
    described: new Map(description.tables?.map((table) => [table.name, table])),
    usualDim: layers?.bottom.at(-1)?.outputs,
  });
  const stored = await Promise.all(readable.map((part) => storedTable(part)));
  const known = featureTables(stored, description, options);
  const common = (tables: readonly EmbeddingTable[], denseFeatures: number) => ({
    naming: convention.naming,
    denseFeatures,
    tables,
    inputs: describedInputs(tables, denseFeatures, description),
    tableOrder: { names: ordered.map(({ name }) => name), source },
    notes: [...found, ...(note === undefined ? [] : [note]), ...quantized],
  });
  if (head !== undefined) {
    refuseInteraction(options);
    const denseFeatures = denseFeaturesOf(head, description);
    const tables = withDeepFmFeatures(known, head, options);
    const { output } = description;
    const architecture = {
      ...common(tables, denseFeatures),
      ...head,
      ...(output === undefined ? {} : { output }),
    };
    checkHead(architecture, description);
    return architecture;
  }
  const { bottom, top } = layers as DlrmLayers;
  const { tables, interaction } = featuresAndInteraction(known, layers as DlrmLayers, convention, options);
  const output = description.output ?? 'probability';
  return { ...common(tables, at(bottom, 0).inputs), bottom, interaction, top, output };
}

/** The layers of a DLRM, each MLP's fitting each other. */
function dlrmLayers(layers: CheckpointParts['layers'], description: ModelDescription): DlrmLayers {
  const mlp = (part: 'bottom' | 'top', last: LinearLayer['activation']) => {
    const stored = layers.get(part);
    if (stored === undefined) throw inconsistent(`no layer of the ${part} MLP is there, while tables are`);
    return BLOCKS.mlp.stored({ described: {}, layers: stored, last }).layers;
  };
  const crossed = layers.get('cross');
  const cross =
    crossed === undefined ? [] : BLOCKS.cross.stored({ described: {}, layers: crossed, last: 'none' }).layers;
  const { bottom, top } = withActivations(
    { bottom: mlp('bottom', 'relu'), cross, top: mlp('top', 'sigmoid') },
    description,
  );
  checkChain('bottom MLP', bottom);
  checkChain('top MLP', top);
  const last = top.at(-1) as LinearLayer;
  if (last.outputs !== 1) {
    throw new ModelError(
      'CHECKPOINT_UNSUPPORTED',
      `the top MLP ends with ${last.outputs} outputs, a click model has 1: what several mean is not said`,
      {
        tensor: `${last.name}.weight`,
        hint: 'describe the head in a model description, "blocks" and "outputs" (docs/model-description.md)',
      },
    );
  }
  return { bottom, cross, top };
}

/** @throws ModelError CHECKPOINT_INCONSISTENT for an interaction that is asked of a model whose head is another. */
function refuseInteraction({ interaction }: ArchitectureOverrides): void {
  if (interaction !== undefined)
    throw inconsistent(`the model is no DLRM, so interaction ${interaction} does not apply`);
}

/** The features' tables of a DeepFM model, some of them guessed where that is asked for. */
function withDeepFmFeatures(
  tables: readonly EmbeddingTable[],
  { blocks }: BlockList,
  { guesses, description }: ArchitectureOptions,
): readonly EmbeddingTable[] {
  if (guesses === undefined || description?.features !== undefined || description?.blocks !== undefined)
    return tables;
  const layersOf = (name: string) => {
    const block = blocks.find((one) => one.name === name);
    return block?.kind === 'mlp' ? block.layers : [];
  };
  const [deep, width, dim] = [
    layersOf('deep')[0]?.inputs,
    layersOf('bottom').at(-1)?.outputs,
    tables[0]?.dim,
  ];
  if (deep === undefined || width === undefined || dim === undefined) return tables;
  return withGuessedFeatures(tables, (deep - width) / dim, guesses);
}

const NO_DESCRIPTION: Omit<ModelDescription, 'checkpoint'> & { readonly checkpoint: string } = {
  kind: 'model',
  version: 1,
  checkpoint: '',
};

/** The features' tables, some of them guessed where that is asked for and nothing else fits, and their interaction. */
function featuresAndInteraction(
  tables: readonly EmbeddingTable[],
  parts: DlrmLayers,
  { naming, triangle }: NamingConvention,
  options: ArchitectureOptions,
) {
  const { description = NO_DESCRIPTION, guesses } = options;
  const asked = interactionAskedFor(description, options);
  const interactionOf = (of: readonly EmbeddingTable[]) =>
    asDescribed(description, () =>
      inferInteraction(parts, of, {
        naming,
        triangle: description.triangle ?? (naming === 'hotrow' ? undefined : triangle),
        featuresKnown: description.features !== undefined,
        ...(asked === undefined ? {} : { interaction: asked }),
        ...(guesses === undefined ? {} : { guesses }),
      }),
    );
  try {
    return { tables, interaction: interactionOf(tables) };
  } catch (error) {
    // facebookresearch/dlrm has a table for each feature.
    if (guesses === undefined || naming === 'dlrm' || description.features !== undefined) throw error;
    const guessed = withGuessedFeatures(tables, featuresOf(parts, tables), guesses);
    if (guessed === tables) throw error;
    return { tables: guessed, interaction: interactionOf(guessed) };
  }
}

/** The interaction that is said. @throws ModelError DESCRIPTION_INVALID where caller and description say different ones. */
function interactionAskedFor(description: ModelDescription, { interaction: asked }: ArchitectureOverrides) {
  const { interaction: described } = description;
  if (described !== undefined && asked !== undefined && described !== asked)
    throw badDescription('/interaction', `is "${described}", and "${asked}" was asked for`);
  return described ?? asked;
}

/** Runs `work`; what does not fit the checkpoint is told by the description's member that says otherwise. */
function asDescribed<T>({ interaction, features }: ModelDescription, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const said =
      interaction !== undefined ? '/interaction' : features !== undefined ? '/features' : undefined;
    if (said === undefined || !(error instanceof ModelError) || error.code !== 'CHECKPOINT_INCONSISTENT')
      throw error;
    throw badDescription(said, `does not fit the checkpoint: ${error.message}`);
  }
}

/** The model's parameters under Hotrow's names. */
function parametersOf(tensors: StoredTensors, { names }: ModelDescription) {
  const entries = [...tensors].map(([path, tensor]) => ({ path, container: tensors, tensor }));
  const own = names === undefined ? {} : { convention: conventionOf(names) };
  const { model, notes } = findStateDict(entries, own);
  if (model !== undefined) return { model, notes };
  const all = [...tensors.keys()];
  refuseRelatives(all, false);
  throw new ModelError(
    'CHECKPOINT_UNRECOGNISED',
    `no embedding tables of known names among ${all.length} parameters: ${some(all)}`,
    {
      hint: 'known names are facebookresearch/dlrm (emb_l.0.weight, bot_l.0.weight, top_l.0.weight) and TorchRec (sparse_arch.embedding_bag_collection.embedding_bags.t_cat_0.weight, dense_arch…, over_arch…); a model description maps names of your own ("names", docs/model-description.md)',
    },
  );
}

/** The tables in the model's order: a description's, facebookresearch/dlrm's numbers, or what the file tells. */
function orderParts(
  tables: readonly TablePart[],
  naming: DlrmArchitecture['naming'],
  { order = 'unsaved', description, guesses }: ArchitectureOptions,
) {
  const described = description?.tables?.map(({ name }) => name);
  const read = description?.features?.map(({ table }) => table);
  if (described !== undefined) {
    const there = new Set(tables.map(({ name }) => name));
    const absent = described.findIndex((name) => !there.has(name));
    if (absent >= 0) {
      const name = JSON.stringify(described[absent]);
      throw badDescription(`/tables/${absent}/name`, `names ${name}, which is no table of the checkpoint`);
    }
    const left = tables.find(({ name }) => !described.includes(name));
    if (left !== undefined) throw badDescription('/tables', `leaves out ${JSON.stringify(left.name)}`);
  }
  const names = read ?? described;
  if (names !== undefined) {
    // The features' order counts: tables stand where they are read first.
    const places = new Map([...new Set(names)].map((name, i) => [name, i]));
    const place = ({ name }: TablePart) => places.get(name) ?? places.size;
    return {
      tables: [...tables].sort((a, b) => place(a) - place(b)),
      source: 'the model description',
    };
  }
  if (naming !== 'dlrm') {
    try {
      return orderTables(tables, order);
    } catch (error) {
      if (guesses === undefined || !isAmbiguous(error)) throw error;
      guesses['/features'] = `their order is that of the file: ${error.message}`;
      return { tables, source: 'a guess' };
    }
  }
  const number = ({ name }: TablePart) => Number(/\d+$/.exec(name)?.[0]);
  const sorted = [...tables].sort((a, b) => number(a) - number(b));
  sorted.forEach((table, t) => {
    if (number(table) === t) return;
    throw inconsistent(
      `emb_l.${t}.weight is missing, while ${table.parameter} is there`,
      `emb_l.${t}.weight`,
    );
  });
  return { tables: sorted, source: 'the numbers of emb_l' };
}

const isAmbiguous = (error: unknown): error is ModelError =>
  error instanceof ModelError && error.code === 'ARCHITECTURE_AMBIGUOUS';

/** The table of a feature of which nothing is known: no description with it is taken. */
export const UNKNOWN_TABLE = '?';

/** How many features the width of a DLRM's interaction asks for; NaN or a fraction: no number of them fits. */
function featuresOf({ bottom, cross, top }: DlrmLayers, tables: readonly EmbeddingTable[]): number {
  const width = (bottom.at(-1) as LinearLayer).outputs;
  const dim = tables[0]?.dim ?? Number.NaN;
  const [layer] = cross;
  if (layer !== undefined) return (layer.width - width) / dim;
  return dim === width ? (featuresOfDot(at(top, 0).inputs - width) ?? Number.NaN) : Number.NaN;
}

/** The tables, and further features on unknown tables until there are `features`, where all tables are of one dim. */
function withGuessedFeatures(
  tables: readonly EmbeddingTable[],
  features: number,
  guesses: Record<string, string>,
): readonly EmbeddingTable[] {
  const [first] = tables;
  if (first === undefined || tables.some(({ dim }) => dim !== first.dim)) return tables;
  if (!Number.isInteger(features) || features <= tables.length) return tables;
  guesses['/features/*/table'] =
    `the model takes ${features} features, and there are fewer tables (${tables.length}): say which features share one, in the model's order`;
  const unknown = Array.from({ length: features - tables.length }, () => ({ ...first, name: UNKNOWN_TABLE }));
  return [...tables, ...unknown];
}

/** The MLPs with the activations that a description says. */
function withActivations(
  { bottom, top }: DlrmLayers,
  { activations = {}, output }: ModelDescription,
): Pick<DlrmLayers, 'bottom' | 'top'> {
  const apply = (layers: readonly LinearLayer[], part: 'bottom' | 'top') => {
    const own = activations[part];
    if (own === undefined) return layers;
    if (own.length !== layers.length)
      throw badDescription(`/activations/${part}`, `has ${own.length} entries for ${layers.length} layers`);
    return layers.map((layer, i) => ({ ...layer, activation: own[i] ?? layer.activation }));
  };
  const last = activations.top?.at(-1);
  if (output === 'logit' && last === 'sigmoid')
    throw badDescription('/output', 'is logit, and the last of /activations/top is a sigmoid');
  if (last === 'relu') throw badDescription('/activations/top', 'ends with relu, which gives no probability');
  const own = apply(top, 'top');
  return {
    bottom: apply(bottom, 'bottom'),
    top: own.map((layer, i) =>
      i < own.length - 1
        ? layer
        : { ...layer, activation: output === 'logit' ? ('none' as const) : ('sigmoid' as const) },
    ),
  };
}

/** Each layer takes what the one before gives. */
function checkChain(what: string, layers: readonly LinearLayer[]): void {
  layers.forEach((layer, i) => {
    const before = layers[i - 1];
    if (before === undefined || before.outputs === layer.inputs) return;
    throw inconsistent(
      `${what}: ${layer.name} takes ${layer.inputs} inputs, ${before.name} gives ${before.outputs}`,
      `${layer.name}.weight`,
    );
  });
}

/** What the annotation says of quantised rows. @throws ModelError where it says nothing, or what does not fit. */
function quantizedRows(name: string, annotation: string, { shape }: StoredTensor): QuantizedRows {
  const rows = parseQuantizedRows(annotation);
  if (rows === undefined) {
    throw inconsistent(`table ${name}: its metadata, ${annotation.slice(0, 80)}, says no row format`, name);
  }
  const expected = rowBytes({ dim: rows.dim, rowFormat: rows.format });
  if (shape[1] !== expected) {
    throw inconsistent(
      `table ${name} has rows of ${shape[1]} bytes, ${rows.format} rows of ${rows.dim} elements have ${expected}`,
      name,
    );
  }
  return rows;
}

async function storedTable({ name, weight, rowWeights }: TablePart): Promise<StoredTable> {
  const [rows, width] = weight.shape;
  if (weight.shape.length !== 2 || !rows || !width)
    throw inconsistent(`table ${name} has shape [${weight.shape}], not [rows, dim]`, name);
  const { annotation, dtype } = weight;
  const quantized =
    dtype === 'uint8' && annotation !== undefined ? quantizedRows(name, annotation, weight) : undefined;
  const dim = quantized?.dim ?? width;
  if (quantized === undefined && !(FLOAT_ROW_FORMATS as readonly string[]).includes(weight.dtype)) {
    throw new ModelError(
      'CHECKPOINT_UNSUPPORTED',
      `table ${name} has ${weight.dtype} rows; supported are ${FLOAT_ROW_FORMATS.join(', ')}, and what \`hotrow quantize\` writes`,
      {
        tensor: name,
        hint: 'convert it, e.g. with weight.float(), and save again',
      },
    );
  }
  if (rowWeights !== undefined && (rowWeights.shape.length !== 1 || rowWeights.shape[0] !== rows)) {
    throw inconsistent(
      `table ${name} has ${rows} rows, its learned pooling weights have shape [${rowWeights.shape}]`,
      name,
    );
  }
  return {
    name,
    weight,
    rows,
    dim,
    rowFormat: quantized?.format ?? (weight.dtype as RowFormat),
    ...(rowWeights === undefined ? {} : { rowWeights: toFloat32(await readTensor(rowWeights)) }),
  };
}
