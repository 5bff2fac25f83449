/**
 * A checkpoint's parameters sorted into the parts of a DLRM, by their names.
 *
 * facebookresearch/dlrm: `emb_l.{t}.weight`, `v_W_l.{t}`, `bot_l.{2i}.{weight,bias}`, `top_l.{2i}.{weight,bias}`.
 * TorchRec DLRM and DLRM_DCN: `sparse_arch.embedding_bag_collection.embedding_bags.{name}.weight`,
 * `dense_arch.model._mlp.{i}._linear.*`, `inter_arch.crossnet.{V_kernels,W_kernels,bias}.{i}`,
 * `over_arch.model.0._mlp.{i}._linear.*`, `over_arch.model.1.*`.
 */
import { type CrossLayer, crossLayer } from '../dense/cross.ts';
import type { LinearLayer } from '../dense/linear.ts';
import { ModelError } from '../errors.ts';
import type { StoredTensor, StoredTensors } from '../tensor.ts';
import type { DlrmArchitecture } from './architecture.ts';

/** The parameters of one code base, sorted into their parts. Every parameter is taken exactly once. */
export interface CheckpointParts {
  readonly naming: DlrmArchitecture['naming'];
  /** The triangle of dot products that this code base takes. */
  readonly triangle: 'lower' | 'upper';
  readonly tables: readonly {
    readonly name: string;
    readonly weight: StoredTensor;
    /** Learned pooling weights, one per row. */
    readonly rowWeights?: StoredTensor;
  }[];
  readonly bottom: readonly LinearLayer[];
  /** Empty where the model has no cross network. */
  readonly cross: readonly CrossLayer[];
  readonly top: readonly LinearLayer[];
}

/** Parameters that do not fit each other; `tensor` is the one that says so. */
export function inconsistent(message: string, tensor?: string): ModelError {
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

/**
 * Sorts the parameters into their parts, and checks names, numbers and the shapes of layers.
 * @throws ModelError CHECKPOINT_UNRECOGNISED, CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT.
 */
export function checkpointParts(tensors: StoredTensors): CheckpointParts {
  const parameters = new Parameters(tensors);
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

function recognise(parameters: Parameters): CheckpointParts {
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

function facebookParts(parameters: Parameters): CheckpointParts {
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

function torchrecParts(parameters: Parameters): CheckpointParts {
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
