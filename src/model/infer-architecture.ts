/**
 * A DLRM's architecture from its parameters' names and shapes.
 *
 * facebookresearch/dlrm: `emb_l.{t}.weight`, `v_W_l.{t}`, `bot_l.{2i}.{weight,bias}`, `top_l.{2i}.{weight,bias}`.
 * TorchRec DLRM and DLRM_DCN: `sparse_arch.embedding_bag_collection.embedding_bags.{name}.weight`,
 * `dense_arch.model._mlp.{i}._linear.*`, `inter_arch.crossnet.{V_kernels,W_kernels,bias}.{i}`,
 * `over_arch.model.0._mlp.{i}._linear.*`, `over_arch.model.1.*`.
 */
import { type CrossLayer, crossLayer } from '../dense/cross.ts';
import { type Interaction, interactionWidth } from '../dense/interaction.ts';
import type { LinearLayer } from '../dense/linear.ts';
import type { EmbeddingTable, PoolingMode } from '../embedding/bag.ts';
import { FLOAT_ROW_FORMATS, type RowFormat, rowBytes } from '../embedding/row-format.ts';
import { ModelError } from '../errors.ts';
import { readTensor, type StoredTensor, type StoredTensors, toFloat32 } from '../tensor.ts';
import type { DlrmArchitecture } from './architecture.ts';
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

/** The parameters of one code base, sorted into their parts. Every parameter is taken exactly once. */
interface Parts {
  readonly naming: DlrmArchitecture['naming'];
  readonly triangle: 'lower' | 'upper';
  readonly tables: readonly {
    readonly name: string;
    readonly weight: StoredTensor;
    readonly rowWeights?: StoredTensor;
  }[];
  readonly bottom: readonly LinearLayer[];
  readonly cross: readonly CrossLayer[];
  readonly top: readonly LinearLayer[];
}

/**
 * Infers the architecture and checks that everything fits together.
 * @throws ModelError CHECKPOINT_UNRECOGNISED, CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT, ARCHITECTURE_AMBIGUOUS.
 */
export async function inferArchitecture(
  tensors: StoredTensors,
  overrides: ArchitectureOverrides = {},
): Promise<DlrmArchitecture> {
  const parts = sortParts(new Parameters(tensors));
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

function inconsistent(message: string, tensor?: string): ModelError {
  return new ModelError('CHECKPOINT_INCONSISTENT', message, tensor === undefined ? {} : { tensor });
}

/** Named tensors, each to be taken once; what is left over is not understood. */
class Parameters {
  readonly #left: Map<string, StoredTensor>;

  constructor(tensors: StoredTensors) {
    this.#left = new Map(tensors);
  }

  names(): string[] {
    return [...this.#left.keys()];
  }

  has(pattern: RegExp): boolean {
    return this.names().some((name) => pattern.test(name));
  }

  take(name: string): StoredTensor {
    const tensor = this.#left.get(name);
    if (tensor === undefined) throw inconsistent(`${name} is missing`, name);
    this.#left.delete(name);
    return tensor;
  }

  /** Takes all names that match; the first group is the key. */
  takeAll(pattern: RegExp): { key: string; name: string; tensor: StoredTensor }[] {
    return this.names().flatMap((name) => {
      const match = pattern.exec(name);
      return match === null ? [] : [{ key: match[1] as string, name, tensor: this.take(name) }];
    });
  }
}

/** Parameters of variants that compute something else, by name. */
const UNSUPPORTED: readonly (readonly [RegExp, string])[] = [
  [/^emb_l\.\d+\.(weight_[qr]|weight_hsh)/, 'quotient-remainder embeddings'],
  [/^emb_l\.\d+\.(embs|proj)\./, 'mixed-dimension embeddings with projections'],
  [/^inter_arch\.crossnet\.kernels\./, 'a full-rank cross network'],
  [/^inter_arch\.interaction_branch/, 'DLRM_Projection'],
  [/^inter_arch\.crossnet\.(U_kernels|gates)/, 'a mixture-of-experts cross network'],
];

/** Left over without meaning for inference. */
const HARMLESS = /(^|\.)(loss_ws|_extra_state|_metadata|num_batches_tracked)$/;

function sortParts(parameters: Parameters): Parts {
  for (const [pattern, what] of UNSUPPORTED) {
    const name = parameters.names().find((candidate) => pattern.test(candidate));
    if (name !== undefined)
      throw new ModelError('CHECKPOINT_UNSUPPORTED', `${name}: ${what} are not supported`, { tensor: name });
  }
  const parts = recognise(parameters);
  const stray = parameters.names().filter((name) => !HARMLESS.test(name));
  if (stray.length > 0) {
    throw new ModelError(
      'CHECKPOINT_UNSUPPORTED',
      `${stray.length} parameters have no place in a DLRM: ${stray.slice(0, 3).join(', ')}${stray.length > 3 ? ' …' : ''}`,
      {
        tensor: stray[0] as string,
        hint: 'the model computes something else, or other tensors were saved with it',
      },
    );
  }
  return parts;
}

const TORCHREC_TABLE = /^sparse_arch\.embedding_bag_collection\.embedding_bags\.(.+)\.weight$/;

function recognise(parameters: Parameters): Parts {
  if (parameters.has(/^emb_l\.\d+\.weight$/)) return facebookParts(parameters);
  if (parameters.has(TORCHREC_TABLE)) return torchrecParts(parameters);
  const found = parameters.names();
  throw new ModelError(
    'CHECKPOINT_UNRECOGNISED',
    `no embedding tables among ${found.length} parameters: ${found.slice(0, 3).join(', ')}${found.length > 3 ? ' …' : ''}`,
    {
      hint: 'known names are facebookresearch/dlrm (emb_l.0.weight, bot_l.0.weight, top_l.0.weight) and TorchRec (sparse_arch.embedding_bag_collection.embedding_bags.t_cat_0.weight, dense_arch…, over_arch…)',
    },
  );
}

function facebookParts(parameters: Parameters): Parts {
  const weights = parameters.takeAll(/^emb_l\.(\d+)\.weight$/).sort((a, b) => Number(a.key) - Number(b.key));
  const rowWeights = new Map(parameters.takeAll(/^v_W_l\.(\d+)$/).map(({ key, tensor }) => [key, tensor]));
  const tables = weights.map(({ key, name, tensor }, t) => {
    if (Number(key) !== t)
      throw inconsistent(`emb_l.${t}.weight is missing, while ${name} is there`, `emb_l.${t}.weight`);
    const learned = rowWeights.get(key);
    rowWeights.delete(key);
    return {
      name: `emb_l.${key}`,
      weight: tensor,
      ...(learned === undefined ? {} : { rowWeights: learned }),
    };
  });
  const [orphan] = rowWeights.keys();
  if (orphan !== undefined)
    throw inconsistent(`v_W_l.${orphan} weights a table that is not there`, `v_W_l.${orphan}`);
  return {
    naming: 'dlrm',
    triangle: 'lower',
    tables,
    // Activations count as layers: 0, 2, 4, …
    bottom: takeMlp(parameters, /^bot_l\.(\d+)\.weight$/, { last: 'relu', step: 2 }),
    cross: [],
    top: takeMlp(parameters, /^top_l\.(\d+)\.weight$/, { last: 'sigmoid', step: 2 }),
  };
}

function torchrecParts(parameters: Parameters): Parts {
  const weights = parameters.takeAll(TORCHREC_TABLE);
  const number = (key: string) => Number(/(\d+)$/.exec(key)?.[1] ?? Number.NaN);
  if (weights.every(({ key }) => !Number.isNaN(number(key))))
    weights.sort((a, b) => number(a.key) - number(b.key));
  const cross = parameters
    .takeAll(/^inter_arch\.crossnet\.V_kernels\.(\d+)$/)
    .sort((a, b) => Number(a.key) - Number(b.key));
  checkNumbers(
    cross.map(({ key, name }) => ({ name, number: Number(key) })),
    1,
  );
  const over = takeMlp(parameters, /^over_arch\.model\.0\._mlp\.(\d+)\._linear\.weight$/, {
    last: 'relu',
    step: 1,
    mayBeEmpty: true,
  });
  const final = takeLinear(parameters, 'over_arch.model.1', 'sigmoid');
  return {
    naming: 'torchrec',
    triangle: 'upper',
    tables: weights.map(({ key, tensor }) => ({ name: key, weight: tensor })),
    bottom: takeMlp(parameters, /^dense_arch\.model\._mlp\.(\d+)\._linear\.weight$/, {
      last: 'relu',
      step: 1,
    }),
    cross: cross.map(({ key, tensor }) =>
      crossLayer(
        `inter_arch.crossnet.${key}`,
        tensor,
        parameters.take(`inter_arch.crossnet.W_kernels.${key}`),
        parameters.take(`inter_arch.crossnet.bias.${key}`),
      ),
    ),
    top: [...over, final],
  };
}

/** The layers whose weights match, numbered 0, step, 2 · step, …; all but the last are relu. */
function takeMlp(
  parameters: Parameters,
  pattern: RegExp,
  {
    last,
    step,
    mayBeEmpty = false,
  }: { readonly last: LinearLayer['activation']; readonly step: number; readonly mayBeEmpty?: boolean },
): LinearLayer[] {
  const names = parameters.names().flatMap((name) => {
    const match = pattern.exec(name);
    return match === null ? [] : [{ name: name.replace(/\.weight$/, ''), number: Number(match[1]) }];
  });
  names.sort((a, b) => a.number - b.number);
  if (names.length === 0 && !mayBeEmpty) throw inconsistent(`no layer matches ${pattern.source}`);
  checkNumbers(names, step);
  return names.map(({ name }, i) => takeLinear(parameters, name, i === names.length - 1 ? last : 'relu'));
}

/** Numbered parameters without a gap; one may be missing where the shapes would fit all the same. */
function checkNumbers(
  sorted: readonly { readonly name: string; readonly number: number }[],
  step: number,
): void {
  const gap = sorted.findIndex(({ number }, i) => number !== step * i);
  if (gap < 0) return;
  const { name, number } = sorted[gap] as { name: string; number: number };
  throw inconsistent(
    `${name} has number ${number} where ${step * gap} is expected; are parameters missing?`,
    name,
  );
}

function takeLinear(
  parameters: Parameters,
  name: string,
  activation: LinearLayer['activation'],
): LinearLayer {
  const weight = parameters.take(`${name}.weight`);
  const bias = parameters.take(`${name}.bias`);
  for (const [part, { dtype }] of Object.entries({ weight, bias })) {
    if (!/float/.test(dtype))
      throw new ModelError('CHECKPOINT_UNSUPPORTED', `${name}.${part} is ${dtype}, not floating point`, {
        tensor: `${name}.${part}`,
      });
  }
  const [outputs, inputs] = weight.shape;
  if (weight.shape.length !== 2 || !outputs || !inputs)
    throw inconsistent(`${name}.weight has shape [${weight.shape}], not [outputs, inputs]`, `${name}.weight`);
  if (bias.shape.length !== 1 || bias.shape[0] !== outputs) {
    throw inconsistent(`${name}.bias has shape [${bias.shape}] for ${outputs} outputs`, `${name}.bias`);
  }
  return { name, weight, bias, inputs, outputs, activation };
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
  { name, weight, rowWeights }: Parts['tables'][number],
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
  { naming, triangle, bottom, cross, top }: Parts,
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
