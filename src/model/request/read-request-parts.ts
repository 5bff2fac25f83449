/** Reads the parts of a request from named tensors, in a file or in memory, in any of their forms (docs/requests.md). */
import { at } from '../../at.ts';
import type { IndexArray } from '../../embedding/bag.ts';
import { parseJson } from '../../formats/json-text.ts';
import { readSafetensors } from '../../formats/safetensors.ts';
import { type StoredTensor, toFloat32 } from '../../tensor.ts';
import type {
  BagBounds,
  DenseRows,
  KeyedLookups,
  LookupNames,
  Lookups,
  RawColumn,
  RequestPart,
  RequestParts,
} from './request-parts.ts';
import {
  fail,
  idsOf,
  integers,
  numbersOf,
  type RequestTensor,
  rawColumn,
  vector,
} from './request-tensors.ts';

const ROLES = ['indices', 'values', 'offsets', 'lengths', 'weights'] as const;
type Role = (typeof ROLES)[number];

/** Tensors whose names end alike: of one feature, or, without an end, of all. */
type Group = Map<Role, RequestTensor>;

/** A stack of more tables than any model has is a damaged file. */
const MAX_STACKED = 1_000_000;

const PLACES =
  'a request holds dense, indices, values, offsets, lengths and weights, alone, with .{table} or with .{feature}, also after user., and users';

/**
 * Reads a file's tensors.
 * @throws UsageError FILE_*; FormatError SAFETENSORS_INVALID; RequestError TENSOR_* naming the tensor.
 */
export async function readRequestParts(file: string): Promise<RequestParts> {
  const { tensors, metadata } = await readSafetensors(file);
  checkSize(tensors);
  return requestParts(tensors, metadata);
}

/**
 * The parts that named tensors make; of `metadata`, `features` and `user.features` are read. Tensors in memory are used where
 * they are.
 * @throws RequestError TENSOR_* naming the tensor; as readTensor for those in files.
 */
export async function requestParts(
  tensors: ReadonlyMap<string, RequestTensor>,
  metadata: Readonly<Record<string, string>>,
): Promise<RequestParts> {
  const own = new Map<string, RequestTensor>();
  const users = new Map<string, RequestTensor>();
  let starts: RequestTensor | undefined;
  for (const [name, tensor] of tensors) {
    if (name === 'users') starts = tensor;
    else if (name.startsWith('user.')) users.set(name.slice('user.'.length), tensor);
    else own.set(name, tensor);
  }
  return {
    samples: await new PartReader(own, '', metadata.features).read(),
    ...(users.size === 0
      ? {}
      : { user: await new PartReader(users, 'user.', metadata['user.features']).read() }),
    ...(starts === undefined ? {} : { users: integers('users', await vector('users', starts)) }),
  };
}

/** All tensors of a request are held in memory. */
const MAX_REQUEST_BYTES = 2 ** 32 - 1;

function checkSize(tensors: ReadonlyMap<string, StoredTensor>): void {
  let bytes = 0;
  for (const [name, { byteLength }] of tensors) {
    bytes += byteLength;
    if (bytes > MAX_REQUEST_BYTES)
      fail(
        'REQUEST_INVALID',
        name,
        `with ${name} the request has ${bytes} bytes, less than 4 GiB are read`,
        'divide the request into several',
      );
  }
}

/** Reads the samples' tensors, or the users'. */
class PartReader {
  readonly #tensors: ReadonlyMap<string, RequestTensor>;
  readonly #prefix: RequestPart['prefix'];
  /** JSON of the stack's features. */
  readonly #keys: string | undefined;

  constructor(
    tensors: ReadonlyMap<string, RequestTensor>,
    prefix: RequestPart['prefix'],
    keys: string | undefined,
  ) {
    this.#tensors = tensors;
    this.#prefix = prefix;
    this.#keys = keys;
  }

  async read(): Promise<RequestPart> {
    const denseByName = new Map<string, RawColumn>();
    const groups = new Map<string, Group>();
    let dense: DenseRows | undefined;
    for (const [name, tensor] of this.#tensors) {
      const dot = name.indexOf('.');
      const [head, end] = dot < 0 ? [name, ''] : [name.slice(0, dot), name.slice(dot)];
      const full = `${this.#prefix}${name}`;
      const role = ROLES.find((known) => known === head);
      if (end === '.' || (role === undefined && head !== 'dense'))
        fail('TENSOR_UNEXPECTED', full, `tensor ${full} has no place in a request`, PLACES);
      if (role !== undefined) groups.set(end, (groups.get(end) ?? new Map()).set(role, tensor));
      else if (end === '') dense = await this.#dense(full, tensor);
      else denseByName.set(end.slice(1), await rawColumn(full, tensor));
    }
    const stack = groups.get('');
    if (stack !== undefined) this.#refuseBeside(groups);
    const keyed = stack?.has('values') === true ? await this.#keyed(stack) : undefined;
    if (keyed === undefined && this.#keys !== undefined) {
      const key = `${this.#prefix}features`;
      fail(
        'TENSOR_UNEXPECTED',
        key,
        `metadata ${key} names the features of stacked values, and there are none`,
      );
    }
    return {
      prefix: this.#prefix,
      denseByName,
      lookups:
        keyed !== undefined
          ? []
          : stack !== undefined
            ? await this.#stacked(stack)
            : await this.#each(groups),
      ...(dense === undefined ? {} : { dense }),
      ...(keyed === undefined ? {} : { keyed }),
    };
  }

  /** `dense` [B, F]; of users [U, F], or [F] of one. */
  async #dense(name: string, stored: RequestTensor): Promise<DenseRows> {
    const { dtype, shape } = stored;
    if (dtype !== 'float32' && dtype !== 'float16' && dtype !== 'bfloat16')
      fail('TENSOR_DTYPE', name, `${name} is ${dtype}, must be float32, float16 or bfloat16`);
    const [rows, width] = this.#prefix !== '' && shape.length === 1 ? [1, ...shape] : shape;
    if (shape.length > 2 || rows === undefined || width === undefined) {
      const expected = this.#prefix === '' ? '[B, F]' : '[U, F] or [F]';
      fail('TENSOR_SHAPE', name, `${name} has shape [${shape}], must be ${expected}`);
    }
    return { data: toFloat32(await numbersOf(name, stored)), rows, width };
  }

  #refuseBeside(groups: ReadonlyMap<string, Group>): void {
    const beside = [...groups].find(([end]) => end !== '');
    if (beside === undefined) return;
    const [end, group] = beside;
    const name = `${this.#prefix}${group.keys().next().value}${end}`;
    const hint = 'stack all tables, or none';
    fail('TENSOR_UNEXPECTED', name, `tensor ${name} stands beside stacked tensors of all tables`, hint);
  }

  /** A group of tensors for each feature. */
  async #each(groups: ReadonlyMap<string, Group>): Promise<Lookups[]> {
    const all: Lookups[] = [];
    for (const [end, group] of groups) {
      const { kind, names, stored } = this.#group(group, end);
      const { shape } = stored;
      if (shape.length === 0 || shape.length > 2)
        fail(
          'TENSOR_SHAPE',
          names.values,
          `${names.values} has shape [${shape}], must have one dimension, or two for bags of one length`,
        );
      const bounds = await boundsOf(group, names, shape, 0);
      const values =
        kind === 'ids'
          ? await idsOf(names.values, stored)
          : integers(names.values, await numbersOf(names.values, stored));
      const weights = await weightsOf(group, names, shape);
      all.push({
        feature: end.slice(1),
        kind,
        values,
        bounds,
        names,
        ...(weights === undefined ? {} : { weights }),
      });
    }
    return all;
  }

  /** `indices` [T, lookups] with `offsets` [T, B | B + 1] or `lengths` [T, B], or `indices` [T, B, L]. */
  async #stacked(group: Group): Promise<Lookups[]> {
    const { names, stored } = this.#group(group, '');
    const { shape } = stored;
    const [tables] = shape;
    if (tables === undefined || shape.length < 2 || shape.length > 3)
      fail(
        'TENSOR_SHAPE',
        names.values,
        `stacked ${names.values} has shape [${shape}], must be [T, lookups] or [T, B, L]`,
      );
    if (tables > MAX_STACKED)
      fail('TENSOR_SHAPE', names.values, `${names.values} is a stack of ${tables} tables`);
    const bounds = await boundsOf(group, names, shape, 1);
    const values = integers(names.values, await numbersOf(names.values, stored));
    const weights = await weightsOf(group, names, shape);
    return Array.from({ length: tables }, (_, t) => ({
      feature: String(t),
      kind: 'rows',
      values: row(values, tables, t),
      bounds: boundsOfTable(bounds, tables, t),
      names,
      ...(weights === undefined ? {} : { weights: row(weights, tables, t) }),
    }));
  }

  /** `values` [lookups] and `lengths` [F, B] or [F · B]. */
  async #keyed(group: Group): Promise<KeyedLookups> {
    const { names, stored } = this.#group(group, '');
    const lengths = group.get('lengths');
    if (lengths === undefined) {
      const name = `${this.#prefix}lengths`;
      fail(
        'TENSOR_MISSING',
        name,
        `tensor ${name} is missing`,
        'stacked values take lengths, as KeyedJaggedTensor.lengths() gives them',
      );
    }
    const { shape } = lengths;
    if (shape.length !== 1 && shape.length !== 2)
      fail('TENSOR_SHAPE', names.bounds, `${names.bounds} has shape [${shape}], must be [F, B] or [F · B]`);
    const values = integers(names.values, await vector(names.values, stored));
    const weights = await weightsOf(group, names, stored.shape);
    const keys = this.#keys === undefined ? undefined : keysOf(this.#keys, `${this.#prefix}features`);
    return {
      values,
      lengths: integers(names.bounds, await numbersOf(names.bounds, lengths)),
      names,
      ...(keys === undefined ? {} : { keys }),
      ...(shape.length === 2 ? { features: at(shape, 0) } : {}),
      ...(weights === undefined ? {} : { weights }),
    };
  }

  /** What a group says its values are, and what bounds its bags. */
  #group(group: Group, end: string): { kind: Lookups['kind']; names: LookupNames; stored: RequestTensor } {
    const name = (role: Role) => `${this.#prefix}${role}${end}`;
    const both = (one: Role, other: Role) => {
      if (group.has(one) && group.has(other))
        fail(
          'TENSOR_UNEXPECTED',
          name(other),
          `${name(other)} stands beside ${name(one)}`,
          `give ${one} or ${other}`,
        );
    };
    both('indices', 'values');
    both('offsets', 'lengths');
    const kind = group.has('values') ? 'ids' : 'rows';
    const values = kind === 'ids' ? 'values' : 'indices';
    const stored = group.get(values);
    if (stored === undefined) fail('TENSOR_MISSING', name(values), `tensor ${name(values)} is missing`);
    const bounds = group.has('lengths') || (kind === 'ids' && !group.has('offsets')) ? 'lengths' : 'offsets';
    return { kind, stored, names: { values: name(values), bounds: name(bounds), weights: name('weights') } };
  }
}

/** The bounds of bags whose values have `shape`, `stacked` leading dimensions of which are tables. */
async function boundsOf(
  group: Group,
  names: LookupNames,
  shape: readonly number[],
  stacked: number,
): Promise<BagBounds> {
  const stored = group.get('offsets') ?? group.get('lengths');
  if (shape.length === stacked + 2) {
    const [bags, length] = shape.slice(stacked) as [number, number];
    if (stored === undefined) return { kind: 'fixed', bags, length };
    const message = `${names.values} has shape [${shape}], bags of one length, and ${names.bounds} stands beside it`;
    fail('TENSOR_SHAPE', names.values, message, 'leave the one out, or flatten the other');
  }
  if (stored === undefined) fail('TENSOR_MISSING', names.bounds, `tensor ${names.bounds} is missing`);
  if (stored.shape.length !== stacked + 1) {
    const expected = stacked === 0 ? 'have one dimension' : 'be [T, …]';
    fail('TENSOR_SHAPE', names.bounds, `${names.bounds} has shape [${stored.shape}], must ${expected}`);
  }
  if (stacked === 1 && stored.shape[0] !== shape[0])
    fail(
      'TENSOR_SHAPE',
      names.bounds,
      `stacked ${names.bounds} has ${stored.shape[0]} tables, ${names.values} has ${shape[0]}`,
    );
  const bounds = integers(names.bounds, await numbersOf(names.bounds, stored));
  return group.has('offsets') ? { kind: 'offsets', offsets: bounds } : { kind: 'lengths', lengths: bounds };
}

function boundsOfTable(bounds: BagBounds, tables: number, t: number): BagBounds {
  switch (bounds.kind) {
    case 'offsets':
      return { kind: 'offsets', offsets: row(bounds.offsets, tables, t) };
    case 'lengths':
      return { kind: 'lengths', lengths: row(bounds.lengths, tables, t) };
    case 'fixed':
      return bounds;
    default:
      return bounds satisfies never;
  }
}

/** Weights, shaped as the values. */
async function weightsOf(
  group: Group,
  names: LookupNames,
  shape: readonly number[],
): Promise<Float32Array | undefined> {
  const stored = group.get('weights');
  if (stored === undefined) return undefined;
  if (stored.dtype !== 'float32')
    fail('TENSOR_DTYPE', names.weights, `${names.weights} is ${stored.dtype}, must be float32`);
  if (String(stored.shape) !== String(shape))
    fail(
      'TENSOR_SHAPE',
      names.weights,
      `${names.weights} has shape [${stored.shape}], must be [${shape}] as ${names.values}`,
    );
  return (await numbersOf(names.weights, stored)).data as Float32Array;
}

/** Names of features from the file's metadata. */
function keysOf(json: string, name: string): readonly string[] {
  let keys: unknown;
  try {
    keys = parseJson(json);
  } catch {
    keys = undefined;
  }
  if (Array.isArray(keys) && keys.every((key): key is string => typeof key === 'string')) return keys;
  return fail('REQUEST_INVALID', name, `metadata ${name} is not a JSON list of features' names`);
}

/** Row t of a matrix of `rows`, over the same memory. */
function row<A extends IndexArray | Float32Array>(matrix: A, rows: number, t: number): A {
  const length = matrix.length / rows;
  return matrix.subarray(t * length, (t + 1) * length) as A;
}
