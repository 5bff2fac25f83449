/** A DLRM's architecture from its parameters: names sort them (checkpoint-parts.ts), shapes say what they compute. */
import type { CrossLayer } from '../dense/cross.ts';
import { type Interaction, interactionWidth } from '../dense/interaction.ts';
import type { LinearLayer } from '../dense/linear.ts';
import type { EmbeddingTable, PoolingMode } from '../embedding/bag.ts';
import { FLOAT_ROW_FORMATS, type RowFormat, rowBytes } from '../embedding/row-format.ts';
import { ModelError } from '../errors.ts';
import { readTensor } from '../stored-tensor.ts';
import { type StoredTensor, type StoredTensors, toFloat32 } from '../tensor.ts';
import type { DlrmArchitecture } from './architecture.ts';
import { type CheckpointParts, checkpointParts, inconsistent } from './checkpoint-parts.ts';
import { parseQuantizedRows, type QuantizedRows } from './quantized-rows.ts';

/** What a checkpoint may leave open. */
export interface ArchitectureOverrides {
  /** The interaction, where the top MLP's width fits several. */
  readonly interaction?: 'dot' | 'dot-diagonal' | 'cat';
  /** How bags are pooled; default `sum`, as both code bases train. */
  readonly mode?: PoolingMode;
  /** A row that lookups of every table skip. */
  readonly paddingIdx?: number;
}

/**
 * Infers the architecture and checks that everything fits together.
 * @throws ModelError CHECKPOINT_UNRECOGNISED, CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT, ARCHITECTURE_AMBIGUOUS.
 */
export async function inferArchitecture(
  tensors: StoredTensors,
  overrides: ArchitectureOverrides = {},
): Promise<DlrmArchitecture> {
  const parts = checkpointParts(tensors);
  const tables = await Promise.all(parts.tables.map((part) => embeddingTable(part, overrides)));
  const { bottom, top } = parts;
  checkChain('bottom MLP', bottom);
  checkChain('top MLP', top);
  const last = top.at(-1) as LinearLayer;
  if (last.outputs !== 1)
    throw inconsistent(
      `the top MLP ends with ${last.outputs} outputs, a click model has 1`,
      `${last.name}.weight`,
    );
  return {
    naming: parts.naming,
    denseFeatures: (bottom[0] as LinearLayer).inputs,
    tables,
    bottom,
    interaction: inferInteraction(parts, tables, overrides.interaction),
    top,
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

/** What the metadata says of quantised rows. @throws ModelError when it says nothing, or what does not fit. */
function quantizedRows(name: string, { annotation, shape }: StoredTensor): QuantizedRows {
  if (annotation === undefined) {
    throw new ModelError(
      'CHECKPOINT_UNSUPPORTED',
      `table ${name} has uint8 rows, and nothing says what they mean`,
      {
        tensor: name,
        hint: 'quantise the original with `hotrow quantize`, or say so in the metadata (docs/file-formats.md)',
      },
    );
  }
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

async function embeddingTable(
  { name, weight, rowWeights }: CheckpointParts['tables'][number],
  { mode = 'sum', paddingIdx }: ArchitectureOverrides,
): Promise<EmbeddingTable> {
  const [rows, width] = weight.shape;
  if (weight.shape.length !== 2 || !rows || !width)
    throw inconsistent(`table ${name} has shape [${weight.shape}], not [rows, dim]`, name);
  const quantized = weight.dtype === 'uint8' ? quantizedRows(name, weight) : undefined;
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
    mode,
    ...(paddingIdx === undefined ? {} : { paddingIdx }),
    ...(rowWeights === undefined ? {} : { rowWeights: toFloat32(await readTensor(rowWeights)) }),
  };
}

/** The interaction whose output width is what the top MLP takes. */
function inferInteraction(
  { naming, triangle, bottom, cross, top }: CheckpointParts,
  tables: readonly EmbeddingTable[],
  override: ArchitectureOverrides['interaction'],
): Interaction {
  const bottomWidth = (bottom.at(-1) as LinearLayer).outputs;
  const dims = tables.map((table) => table.dim);
  const topInputs = (top[0] as LinearLayer).inputs;
  if (cross.length > 0) {
    if (override !== undefined)
      throw inconsistent(`the checkpoint has a cross network, so --interaction ${override} does not apply`);
    return crossInteraction(cross, bottomWidth, dims, topInputs);
  }

  const candidates: Record<string, Interaction> = {
    dot: { kind: 'dot', diagonal: false, order: triangle },
    ...(naming === 'dlrm' ? { 'dot-diagonal': { kind: 'dot', diagonal: true, order: triangle } } : {}),
    cat: { kind: 'cat' },
  };
  const widths = Object.entries(candidates).map(([name, interaction]) => ({
    name,
    interaction,
    width: interactionWidth(interaction, bottomWidth, dims),
    // Dot products need vectors of one dim.
    possible: interaction.kind === 'cat' || dims.every((dim) => dim === bottomWidth),
  }));
  const explain = widths
    .map(({ name, width, possible }) => `${name} gives ${possible ? width : 'nothing, the dims differ'}`)
    .join(', ');
  const fitting = widths.filter(({ width, possible }) => possible && width === topInputs);
  const chosen = override === undefined ? fitting : fitting.filter(({ name }) => name === override);
  if (chosen.length > 1) {
    throw new ModelError(
      'ARCHITECTURE_AMBIGUOUS',
      `the top MLP takes ${topInputs} inputs, which fits ${fitting.map(({ name }) => name).join(' and ')}`,
      {
        hint: `pass --interaction ${fitting.map(({ name }) => name).join(' or ')}`,
      },
    );
  }
  const [only] = chosen;
  if (only !== undefined) return only.interaction;
  const wanted = override === undefined ? '' : ` with --interaction ${override}`;
  throw inconsistent(
    `the top MLP takes ${topInputs} inputs, which fits no interaction${wanted} of a bottom output of ${bottomWidth} with ${dims.length} tables: ${explain}`,
    `${top[0]?.name}.weight`,
  );
}

function crossInteraction(
  layers: readonly CrossLayer[],
  bottomWidth: number,
  dims: readonly number[],
  topInputs: number,
): Interaction {
  const interaction: Interaction = { kind: 'cross', layers };
  const width = interactionWidth(interaction, bottomWidth, dims);
  const odd = layers.find((layer) => layer.width !== width);
  if (odd !== undefined) {
    throw inconsistent(
      `${odd.name} is ${odd.width} wide; bottom output and tables together are ${width}`,
      odd.name,
    );
  }
  if (topInputs !== width)
    throw inconsistent(`the top MLP takes ${topInputs} inputs, the cross network gives ${width}`);
  return interaction;
}
