/** A DLRM's architecture from its parameters: names sort them (state-dict.ts), shapes say what they compute, a description the rest. */
import { at } from '../at.ts';
import type { LinearLayer } from '../dense/linear.ts';
import type { EmbeddingTable, PoolingMode } from '../embedding/bag.ts';
import { FLOAT_ROW_FORMATS, type RowFormat, rowBytes } from '../embedding/row-format.ts';
import { ModelError } from '../errors.ts';
import { readTensor } from '../stored-tensor.ts';
import { type StoredTensor, type StoredTensors, toFloat32 } from '../tensor.ts';
import type { DlrmArchitecture } from './architecture.ts';
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
import { featuresOfDot, inferInteraction } from './infer-interaction.ts';
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
): Promise<DlrmArchitecture> {
  const { description = NO_DESCRIPTION } = options;
  const { model, notes: found } = parametersOf(tensors, description);
  const { convention } = model;
  const parts = checkpointParts(model);
  const { tables: ordered, source, note } = orderParts(parts.tables, convention.naming, options);
  const { bottom, top } = withActivations(parts, description);
  checkChain('bottom MLP', bottom);
  checkChain('top MLP', top);
  const last = top.at(-1) as LinearLayer;
  if (last.outputs !== 1) {
    throw new ModelError(
      'CHECKPOINT_UNSUPPORTED',
      `the top MLP ends with ${last.outputs} outputs, a click model has 1: several outputs are not supported`,
      {
        tensor: `${last.name}.weight`,
        hint: "save a model of one output: that output's row of the last layer's weight and bias",
      },
    );
  }
  const { tables: readable, notes: quantized } = await quantizedTables(ordered, {
    described: new Map(description.tables?.map((table) => [table.name, table])),
    usualDim: (bottom.at(-1) as LinearLayer).outputs,
  });
  const stored = await Promise.all(readable.map((part) => storedTable(part)));
  const { tables, interaction } = featuresAndInteraction(
    featureTables(stored, description, options),
    { ...parts, bottom, top },
    convention,
    options,
  );
  const denseFeatures = at(bottom, 0).inputs;
  return {
    naming: convention.naming,
    denseFeatures,
    tables,
    bottom,
    interaction,
    top,
    output: description.output ?? 'probability',
    inputs: describedInputs(tables, denseFeatures, description),
    tableOrder: { names: ordered.map(({ name }) => name), source },
    notes: [...found, ...(note === undefined ? [] : [note]), ...quantized],
  };
}

const NO_DESCRIPTION: Omit<ModelDescription, 'checkpoint'> & { readonly checkpoint: string } = {
  kind: 'model',
  version: 1,
  checkpoint: '',
};

/** The features' tables, some of them guessed where that is asked for and nothing else fits, and their interaction. */
function featuresAndInteraction(
  tables: readonly EmbeddingTable[],
  parts: CheckpointParts,
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
    const guessed = withGuessedFeatures(tables, parts, guesses);
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

/** The tables, and as many features on unknown tables as the width of the interaction asks for. */
function withGuessedFeatures(
  tables: readonly EmbeddingTable[],
  { bottom, cross, top }: CheckpointParts,
  guesses: Record<string, string>,
): readonly EmbeddingTable[] {
  const [first] = tables;
  if (first === undefined || tables.some(({ dim }) => dim !== first.dim)) return tables;
  const width = (bottom.at(-1) as LinearLayer).outputs;
  const [layer] = cross;
  const features =
    layer !== undefined
      ? (layer.width - width) / first.dim
      : first.dim === width
        ? (featuresOfDot(at(top, 0).inputs - width) ?? 0)
        : 0;
  if (!Number.isInteger(features) || features <= tables.length) return tables;
  guesses['/features/*/table'] =
    `the model takes ${features} features, and there are fewer tables (${tables.length}): say which features share one, in the model's order`;
  const unknown = Array.from({ length: features - tables.length }, () => ({ ...first, name: UNKNOWN_TABLE }));
  return [...tables, ...unknown];
}

/** The MLPs with the activations that a description says. */
function withActivations(
  { bottom, top }: CheckpointParts,
  { activations = {}, output }: ModelDescription,
): Pick<CheckpointParts, 'bottom' | 'top'> {
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
