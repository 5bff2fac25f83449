/** The parts of a model from parameters under Hotrow's names (naming.ts): tables, layers in their order. */
import { at } from '../../at.ts';
import type { StoredLayer } from '../../dense/block.ts';
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
  /** The layers of each block, by its name, in their order. */
  readonly layers: ReadonlyMap<string, readonly StoredLayer[]>;
}

/** Parameters that do not fit each other; `tensor` is the one that says so. */
export function inconsistent(message: string, tensor?: string): ModelError {
  return new ModelError('CHECKPOINT_INCONSISTENT', message, tensor === undefined ? {} : { tensor });
}

type Model = NonNullable<StateDict<StoredTensor>['model']>;

/**
 * Sorts the parameters into the parts; every layer has the one before.
 * @throws ModelError CHECKPOINT_INCONSISTENT.
 */
export function checkpointParts({ parameters }: Model): CheckpointParts {
  return { tables: tablesOf(parameters), layers: layersOf(parameters) };
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

/** `bottom.0.weight`, or `blocks.bottom.0.weight`. */
const LAYER = /^(?:blocks\.)?(.+)\.(\d+|last)\.([a-z_]+)$/s;

/**
 * The layers of every block in their order, `last` after all numbers.
 * @throws ModelError CHECKPOINT_INCONSISTENT for a gap: the shapes may fit all the same.
 */
function layersOf(parameters: Model['parameters']): Map<string, StoredLayer[]> {
  const blocks = new Map<string, Map<string, Record<string, Parameter<StoredTensor>>>>();
  for (const [key, parameter] of parameters) {
    if (key.startsWith('tables.')) continue;
    const [, block, place, kind] = LAYER.exec(key) as unknown as [string, string, string, string];
    const layers = blocks.get(block) ?? new Map<string, Record<string, Parameter<StoredTensor>>>();
    blocks.set(block, layers);
    const layer = layers.get(place) ?? {};
    layers.set(place, layer);
    const other = layer[kind];
    if (other !== undefined)
      throw inconsistent(`${other.name} and ${parameter.name} both stand for ${key}`, parameter.name);
    layer[kind] = parameter;
  }
  return new Map([...blocks].map(([block, layers]) => [block, sortedLayers(layers)]));
}

function sortedLayers(layers: Map<string, Record<string, Parameter<StoredTensor>>>): StoredLayer[] {
  const last = layers.get('last');
  layers.delete('last');
  const sorted = [...layers].sort(([a], [b]) => Number(a) - Number(b));
  sorted.forEach(([place, layer], i) => {
    if (Number(place) !== i) throw missing(at(Object.values(layer), 0), i);
  });
  return [...sorted.map(([, layer]) => layer), ...(last === undefined ? [] : [last])];
}

/** What layer `number` would be called, of which there is nothing, while `present` is there. */
function missing(present: Parameter<StoredTensor>, number: number): ModelError {
  const values = new Map(present.values);
  for (const [variable, value] of values) if (typeof value === 'number') values.set(variable, number);
  const absent = present.rule.from.fill(values);
  return inconsistent(`${absent} is missing, while ${present.name} is there`, absent);
}
