/**
 * Where the model is among all that was saved: which tensors are its parameters, and what stands before their names.
 * Only names are looked at; no tensor is resolved.
 */
import { at } from '../../at.ts';
import { ModelError } from '../../errors.ts';
import { dictOf } from '../../formats/torch/torch-file.ts';
import {
  CONVENTIONS,
  type NamedParameter,
  type NamingConvention,
  type RecognisedNames,
  recogniseNames,
} from './naming.ts';
import { isBystander, refuseRelatives } from './near-relatives.ts';
import { withoutWrappers } from './wrappers.ts';

/** A tensor of what was saved. */
export interface SavedEntry<T> {
  /** Keys of the containers around it and its own, joined by dots. */
  readonly path: string;
  /** The container that it stands in; tensors of one state dict have the same. */
  readonly container: unknown;
  readonly tensor: T;
  /** A further name of a tensor that stands under its own: it counts where the model has a parameter of that name. */
  readonly alias?: boolean;
}

/** Containers within containers, at most; state dicts stand in the first few. */
const MAX_DEPTH = 8;
/** Tensors in lists of so many are an optimizer's. */
const MAX_LIST = 64;
/** Longer than any parameter's name, around it included. A pickle may hold a long text once and use it many times. */
const MAX_NAME = 1024;

/**
 * All tensors in dicts, by their paths, each dict once; dicts may stand in short lists.
 * `isTensor` tells them; everything else is passed over.
 */
export function savedEntries<T>(saved: unknown, isTensor: (value: unknown) => value is T): SavedEntry<T>[] {
  const entries: SavedEntry<T>[] = [];
  const seen = new Set<unknown>();
  const toVisit: { readonly value: unknown; readonly path: string; readonly depth: number }[] = [
    { value: saved, path: '', depth: 0 },
  ];
  // It grows on the way.
  for (const { value: container, path, depth } of toVisit) {
    if (seen.has(container) || depth > MAX_DEPTH) continue;
    seen.add(container);
    const dict = dictOf(container);
    const items: Iterable<readonly [unknown, unknown]> =
      dict !== undefined
        ? dict
        : Array.isArray(container) && container.length <= MAX_LIST
          ? container.entries()
          : [];
    for (const [key, value] of items) {
      if (typeof key !== 'string' && typeof key !== 'number') continue;
      const name = path === '' ? String(key) : `${path}.${key}`;
      if (name.length > MAX_NAME)
        throw new ModelError('CHECKPOINT_UNSUPPORTED', `a key of ${name.length} characters is no name`, {
          tensor: name.slice(0, MAX_NAME),
        });
      if (isTensor(value)) {
        if (dict !== undefined) entries.push({ path: name, container, tensor: value });
      } else if (dictOf(value) !== undefined || Array.isArray(value))
        toVisit.push({ value, path: name, depth: depth + 1 });
    }
  }
  return entries;
}

/** Where training scripts keep the state dict, and what they call the model: no other stands behind these names. */
const PLAIN_PARTS = new Set([
  'state_dict',
  'model_state_dict',
  'model_state',
  'model',
  'dlrm_model',
  'dlrm',
  'net',
]);

/** A parameter of the model, under Hotrow's name. */
export interface Parameter<T> extends NamedParameter {
  /** Its bare name in the checkpoint. */
  readonly name: string;
  readonly tensor: T;
}

export interface StateDict<T> {
  /** The model's parameters by their bare names, in the order in which they were saved. */
  readonly tensors: ReadonlyMap<string, T>;
  /** Undefined where no names are known. */
  readonly model?: {
    readonly convention: NamingConvention;
    /** By Hotrow's names (naming.ts), in the order in which they were saved. */
    readonly parameters: ReadonlyMap<string, Parameter<T>>;
  };
  /** What was taken off or left aside, for people. */
  readonly notes: readonly string[];
}

export interface StateDictOptions {
  /** A description's own names; they come before those of the known code bases. */
  readonly convention?: NamingConvention;
  /** What stands before the model's names, where several models were saved. */
  readonly prefix?: string;
}

/**
 * The state dict of the model among `entries`. Where no names are known, all tensors of the largest container.
 * @throws ModelError CHECKPOINT_INCONSISTENT for a name that stands twice, ARCHITECTURE_AMBIGUOUS for several models,
 * CHECKPOINT_UNSUPPORTED for parameters that have no place in the model.
 */
export function findStateDict<T>(
  entries: readonly SavedEntry<T>[],
  { convention, prefix }: StateDictOptions = {},
): StateDict<T> {
  const named = new Map<string, SavedEntry<T>>();
  for (const entry of entries) {
    const name = withoutWrappers(entry.path);
    const other = named.get(name);
    if (other !== undefined && entry.alias) continue;
    if (other !== undefined) {
      throw new ModelError(
        'CHECKPOINT_INCONSISTENT',
        `${name} is there twice, as ${other.path} and as ${entry.path}`,
        { tensor: name, hint: 'the wrappers around a model (module, _orig_mod, …) add nothing to its names' },
      );
    }
    named.set(name, entry);
  }
  const names = [...named.keys()];
  const conventions = convention === undefined ? CONVENTIONS : [convention];
  const groups = recogniseNames(names, conventions);
  const model = chooseModel(groups, prefix);
  if (model === undefined) return { tensors: largestContainer(named), notes: [] };
  const others = groups.filter((group) => group !== model && group.hasTables && group.hasLayers);
  return modelTensors(named, model, others);
}

/** The one model, or the one behind a plain name. */
function chooseModel(
  groups: readonly RecognisedNames[],
  prefix: string | undefined,
): RecognisedNames | undefined {
  const found = groups.filter(({ hasTables }) => hasTables);
  if (prefix !== undefined) {
    const bare = withoutWrappers(prefix);
    const chosen = found.find((model) => model.prefix === bare);
    if (chosen !== undefined) return chosen;
    const there = found.map((model) => quoted(model.prefix)).join(', ') || 'none';
    throw new ModelError(
      'DESCRIPTION_INVALID',
      `/prefix: no tables stand under ${quoted(prefix)}; prefixes with tables: ${there}`,
      { value: prefix },
    );
  }
  // With its layers, a model is whole; tables alone may be a copy that something else keeps.
  const whole = found.filter(({ hasLayers }) => hasLayers);
  const models = whole.length > 0 ? whole : found;
  if (models.length <= 1) {
    const [only] = models;
    if (only !== undefined && !only.hasLayers) refuseDivided(only, groups);
    return only;
  }
  const plain = models.filter((model) =>
    model.prefix
      .split('.')
      .slice(0, -1)
      .every((part) => PLAIN_PARTS.has(part)),
  );
  const [first, second] = plain.sort((a, b) => a.prefix.length - b.prefix.length);
  if (first !== undefined && second?.prefix.length !== first.prefix.length) return first;
  throw new ModelError(
    'ARCHITECTURE_AMBIGUOUS',
    `${models.length} models were saved together, under ${models.map((model) => quoted(model.prefix)).join(', ')}`,
    { hint: 'say which in a model description: "prefix": "…"' },
  );
}

/** Refuses a model whose layers stand under another prefix than its tables. */
function refuseDivided(tables: RecognisedNames, groups: readonly RecognisedNames[]): void {
  const layers = groups.find((group) => group.convention === tables.convention && group.hasLayers);
  if (layers === undefined) return;
  throw new ModelError(
    'CHECKPOINT_INCONSISTENT',
    `the tables stand under the prefix ${quoted(tables.prefix)}, the layers under ${quoted(layers.prefix)}`,
    {
      hint: 'map both onto Hotrow\'s names in a model description ("names"), or save one state dict of the whole model',
    },
  );
}

const quoted = (text: string) => JSON.stringify(text);

/** The parameters of `model`; whole models beside or within it, as an average of it, are left aside. */
function modelTensors<T>(
  named: ReadonlyMap<string, SavedEntry<T>>,
  model: RecognisedNames,
  others: readonly RecognisedNames[],
): StateDict<T> {
  const { prefix, parameters, ignored, convention } = model;
  const namesOf = (group: RecognisedNames) => [...group.parameters.values()].map(({ name }) => name);
  const own = new Set(namesOf(model));
  const containers = new Set([...own].map((name) => named.get(name)?.container));
  const known = new Set([...ignored, ...others.flatMap(namesOf)]);
  const aside: string[] = [];
  const stray: string[] = [];
  for (const [name, { container, alias }] of named) {
    if (own.has(name) || alias) continue;
    const within = containers.has(container) && name.startsWith(prefix);
    const bare = name.slice(prefix.length);
    if (!within || known.has(name) || isBystander(bare)) aside.push(name);
    else stray.push(bare);
  }
  refuseRelatives(stray, true);
  if (stray.length > 0) {
    throw new ModelError(
      'CHECKPOINT_UNSUPPORTED',
      `${counted(stray.length, 'parameter')} ${stray.length === 1 ? 'has' : 'have'} no place in a DLRM with ${convention.title} names: ${some(stray)}`,
      {
        tensor: at(stray, 0),
        hint: 'the model computes something else, or other tensors were saved with it; a model description can map names, or set those aside that compute nothing ("names": {"NAME": null})',
      },
    );
  }
  const notes = [
    ...(prefix === '' ? [] : [`the model stands under ${quoted(prefix)}`]),
    ...(aside.length === 0 ? [] : [`left aside: ${counted(aside.length, 'tensor')} (${some(aside)})`]),
  ];
  const bare = [...parameters].map(([canonical, parameter]): [string, Parameter<T>] => {
    const { tensor } = named.get(parameter.name) as SavedEntry<T>;
    return [canonical, { ...parameter, name: parameter.name.slice(prefix.length), tensor }];
  });
  const tensors = new Map(bare.map(([, { name, tensor }]) => [name, tensor]));
  return { tensors, notes, model: { convention, parameters: new Map(bare) } };
}

function largestContainer<T>(named: ReadonlyMap<string, SavedEntry<T>>): ReadonlyMap<string, T> {
  const sizes = new Map<unknown, number>();
  for (const { container } of named.values()) sizes.set(container, (sizes.get(container) ?? 0) + 1);
  const most = Math.max(0, ...sizes.values());
  const largest = [...sizes].find(([, size]) => size === most)?.[0];
  return new Map(
    [...named]
      .filter(([, { container }]) => container === largest)
      .map(([name, { tensor }]) => [name, tensor]),
  );
}

const counted = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`;

/** The first few names. */
export function some(names: readonly string[]): string {
  return `${names.slice(0, 3).join(', ')}${names.length > 3 ? ' …' : ''}`;
}
