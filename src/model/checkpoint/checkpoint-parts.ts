/** The parts of a DLRM from parameters under Hotrow's names (naming.ts): tables, layers in their order. */
import { at } from '../../at.ts';
import { type CrossLayer, crossLayer } from '../../dense/cross.ts';
import type { LinearLayer } from '../../dense/linear.ts';
import { ModelError } from '../../errors.ts';
import type { StoredTensor } from '../../tensor.ts';
import type { Parameter, StateDict } from './state-dict.ts';

/** A table's parameters. */
export interface TablePart {
  readonly name: string;
  /** The weight's name in the checkpoint. */
  readonly parameter: string;
  readonly weight: StoredTensor;
  /** Scales and biases of quantised rows that stand apart from them. */
  readonly scale?: StoredTensor;
  readonly bias?: StoredTensor;
  /** Learned pooling weights, one per row. */
  readonly rowWeights?: StoredTensor;
}

/** The parameters of a model, sorted into its parts. */
export interface CheckpointParts {
  /** In the order in which they were saved. */
  readonly tables: readonly TablePart[];
  readonly bottom: readonly LinearLayer[];
  /** Empty where the model has no cross network. */
  readonly cross: readonly CrossLayer[];
  readonly top: readonly LinearLayer[];
}

/** Parameters that do not fit each other; `tensor` is the one that says so. */
export function inconsistent(message: string, tensor?: string): ModelError {
  return new ModelError('CHECKPOINT_INCONSISTENT', message, tensor === undefined ? {} : { tensor });
}

type Model = NonNullable<StateDict<StoredTensor>['model']>;

/**
 * Sorts the parameters into the parts, and checks numbers and the shapes of layers.
 * @throws ModelError CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT.
 */
export function checkpointParts({ parameters }: Model): CheckpointParts {
  const cross = layersOf(parameters, 'cross').map(({ parts, names }): CrossLayer => {
    const { v, w, weight, bias } = parts;
    const matrix = weight ?? w;
    const name = (matrix ?? bias ?? v)?.name as string;
    if (matrix === undefined || bias === undefined || (weight === undefined) === (v === undefined))
      throw inconsistent(
        `${name} lacks its other parameters: ${names.join(', ')} alone make no cross layer`,
        name,
      );
    return crossLayer(name, {
      ...(v === undefined ? {} : { v: v.tensor }),
      w: matrix.tensor,
      bias: bias.tensor,
    });
  });
  return {
    tables: tablesOf(parameters),
    bottom: mlp(parameters, 'bottom'),
    cross,
    top: mlp(parameters, 'top'),
  };
}

function tablesOf(parameters: Model['parameters']): TablePart[] {
  const tables: TablePart[] = [];
  const taken = new Set<string>();
  const take = (key: string) => {
    const parameter = parameters.get(key);
    if (parameter !== undefined) taken.add(key);
    return parameter?.tensor;
  };
  const optional = <K extends string>(name: K, tensor: StoredTensor | undefined) =>
    (tensor === undefined ? {} : { [name]: tensor }) as Partial<Record<K, StoredTensor>>;
  for (const [key, { name: parameter, tensor }] of parameters) {
    const name = /^tables\.(.+)\.weight$/s.exec(key)?.[1];
    if (name === undefined) continue;
    taken.add(key);
    tables.push({
      name,
      parameter,
      weight: tensor,
      ...optional('scale', take(`tables.${name}.weight_qscale`)),
      ...optional('bias', take(`tables.${name}.weight_qbias`)),
      ...optional('rowWeights', take(`tables.${name}.row_weights`)),
    });
  }
  for (const [key, { name }] of parameters) {
    if (key.startsWith('tables.') && !taken.has(key))
      throw inconsistent(`${name} belongs to a table that is not there`, name);
  }
  return tables;
}

/** A layer's parameters by the last part of Hotrow's names. */
interface LayerParts {
  readonly parts: Readonly<Record<string, Parameter<StoredTensor> | undefined>>;
  readonly names: readonly string[];
}

/**
 * The layers of a part in their order, `last` after all numbers.
 * @throws ModelError CHECKPOINT_INCONSISTENT for a gap: the shapes may fit all the same.
 */
function layersOf(parameters: Model['parameters'], part: 'bottom' | 'cross' | 'top'): LayerParts[] {
  const layers = new Map<string, Record<string, Parameter<StoredTensor>>>();
  for (const [key, parameter] of parameters) {
    const [own, place, kind] = key.split('.') as [string, string, string];
    if (own !== part) continue;
    const layer = layers.get(place) ?? {};
    layers.set(place, layer);
    layer[kind] = parameter;
  }
  const last = layers.get('last');
  layers.delete('last');
  const sorted = [...layers].sort(([a], [b]) => Number(a) - Number(b));
  sorted.forEach(([place, layer], i) => {
    if (Number(place) === i) return;
    const present = at(Object.values(layer), 0);
    throw missing(present, i);
  });
  return [...sorted.map(([, layer]) => layer), ...(last === undefined ? [] : [last])].map((parts) => ({
    parts,
    names: Object.values(parts).map(({ name }) => name),
  }));
}

/** What layer `number` would be called, of which there is nothing, while `present` is there. */
function missing(present: Parameter<StoredTensor>, number: number): ModelError {
  const values = new Map(present.values);
  for (const [variable, value] of values) if (typeof value === 'number') values.set(variable, number);
  const absent = present.rule.from.fill(values);
  return inconsistent(`${absent} is missing, while ${present.name} is there`, absent);
}

/** An MLP's layers: relu, the top's last one a sigmoid. */
function mlp(parameters: Model['parameters'], part: 'bottom' | 'top'): LinearLayer[] {
  const layers = layersOf(parameters, part);
  if (layers.length === 0) throw inconsistent(`no layer of the ${part} MLP is there, while tables are`);
  const biased = layers.find(({ parts }) => parts.bias !== undefined);
  return layers.map(({ parts, names }, i) => {
    if (parts.weight === undefined) throw inconsistent(`the weight of ${names[0]} is missing`, names[0]);
    if (biased !== undefined && parts.bias === undefined) {
      const absent = parts.weight.name.replace(/weight$/, 'bias');
      throw inconsistent(`${absent} is missing, while ${biased.parts.bias?.name} is there`, absent);
    }
    const activation = part === 'top' && i === layers.length - 1 ? 'sigmoid' : 'relu';
    return linearLayer(parts.weight, parts.bias, activation);
  });
}

function linearLayer(
  weight: Parameter<StoredTensor>,
  bias: Parameter<StoredTensor> | undefined,
  activation: LinearLayer['activation'],
): LinearLayer {
  for (const { name, tensor } of [weight, ...(bias === undefined ? [] : [bias])]) {
    if (/^b?float(16|32|64)$/.test(tensor.dtype)) continue;
    throw new ModelError(
      'CHECKPOINT_UNSUPPORTED',
      `${name} is ${tensor.dtype}; layers are float32, float64, float16 or bfloat16`,
      {
        tensor: name,
      },
    );
  }
  const [outputs, inputs] = weight.tensor.shape;
  if (weight.tensor.shape.length !== 2 || !outputs || !inputs)
    throw inconsistent(
      `${weight.name} has shape [${weight.tensor.shape}], not [outputs, inputs]`,
      weight.name,
    );
  if (bias !== undefined && (bias.tensor.shape.length !== 1 || bias.tensor.shape[0] !== outputs))
    throw inconsistent(`${bias.name} has shape [${bias.tensor.shape}] for ${outputs} outputs`, bias.name);
  return {
    name: weight.name.replace(/\.weight$/, ''),
    weight: weight.tensor,
    ...(bias === undefined ? {} : { bias: bias.tensor }),
    inputs,
    outputs,
    activation,
  };
}
