/**
 * Finds where a request's tensors lie, without a look at their elements, where a model takes them as they are. All else, what is
 * wrong included, is for bindInferRequest, which says what.
 */
import type { FeatureInput, ModelInputs } from '../../model/inputs.ts';
import { userStarts } from '../../model/request/request-sizes.ts';
import { type BodyTensor, elementsOf, isInBody, type TensorRequest } from './infer-request.ts';
import { type NativeGroup, NativeNames } from './native-names.ts';
import type { NativeRequest } from './native-request.ts';
import { elementsIn, type GroupTensors, isList, NativeTables, noTensors } from './native-tables.ts';

type Groups = ReadonlyMap<NativeGroup, GroupTensors>;

/** A request's tensors, sorted by what they are. */
interface Sorted {
  readonly groups: Groups;
  readonly dense: BodyTensor | undefined;
  readonly userDense: BodyTensor | undefined;
  readonly users: BodyTensor | undefined;
}

/** A matrix of float32 in the body. */
interface Matrix {
  readonly rows: number;
  readonly width: number;
  readonly byteOffset: number;
}

const MAX_SAMPLES = 2 ** 31 - 1;

/** Binds requests to one model. */
export class NativeBinder {
  readonly #features: readonly FeatureInput[];
  readonly #denseFeatures: number;
  readonly #names: NativeNames;
  /** What was bound last: requests of one shape share their tensors. */
  #last: { readonly tensors: unknown; readonly bodyAt: number; readonly native: NativeRequest } | undefined;

  constructor({ features, dense }: ModelInputs) {
    this.#features = features;
    this.#denseFeatures = dense.length;
    this.#names = new NativeNames(features);
  }

  /**
   * The places of a request's tensors, if the body begins at `bodyAt`. Undefined: it is not so simple, or it is wrong.
   * @throws RequestError USERS_INVALID.
   */
  bind(request: TensorRequest, bodyAt = 0): NativeRequest | undefined {
    const { tensors } = request;
    if (this.#last?.tensors === tensors && this.#last.bodyAt === bodyAt) return this.#last.native;
    const native = this.#bind(request, bodyAt);
    // Where users begin, each body says by itself.
    this.#last = native === undefined || native.users !== undefined ? undefined : { tensors, bodyAt, native };
    return native;
  }

  #bind(request: TensorRequest, bodyAt: number): NativeRequest | undefined {
    const sorted = this.#sort(request);
    if (sorted === undefined) return undefined;
    const { groups } = sorted;
    const own = matrix(sorted.dense, false);
    const common = matrix(sorted.userDense, true);
    if (own === null || common === null) return undefined;
    if ((own?.width ?? 0) + (common?.width ?? 0) !== this.#denseFeatures) return undefined;
    const ownOrder = this.#order(groups, false, request.metadata.features);
    const userOrder = this.#order(groups, true, request.metadata['user.features']);
    if (ownOrder === null || userOrder === null) return undefined;
    const samples = own?.rows ?? sizeOf(groups, false, ownOrder);
    if (samples === undefined || !Number.isInteger(samples) || samples < 1 || samples > MAX_SAMPLES)
      return undefined;
    const starts = usersOf(request, sorted, samples, common?.rows ?? sizeOf(groups, true, userOrder));
    if (starts === null) return undefined;
    const found = new NativeTables(this.#features, bodyAt);
    const samplesPart = { bags: samples, order: ownOrder };
    const usersPart = { bags: (starts?.length ?? 1) - 1, order: userOrder };
    for (const [group, tensors] of groups) {
      const part = group.perUser ? usersPart : samplesPart;
      const fits = group.inPiece
        ? found.addPiece(group, tensors, part)
        : found.addTable(group, tensors, part);
      if (!fits) return undefined;
    }
    // Samples of which a body holds nothing are only claimed.
    const isBacked = found.hasOwn || (own?.width ?? 0) > 0;
    if (!isBacked || !found.isComplete()) return undefined;
    const denseAt = (of: Matrix | undefined) => (of === undefined ? 0 : bodyAt + of.byteOffset);
    const { tables, pieces } = found;
    if (starts === undefined) return { samples, denseAt: denseAt(own), tables, pieces };
    const users = { starts, denseFeatures: common?.width ?? 0, denseAt: denseAt(common) };
    return { samples, denseAt: denseAt(own), users, tables, pieces };
  }

  #sort({ tensors }: TensorRequest): Sorted | undefined {
    const groups = new Map<NativeGroup, GroupTensors>();
    let dense: BodyTensor | undefined;
    let userDense: BodyTensor | undefined;
    let users: BodyTensor | undefined;
    /** Whether the samples' part and the users' have tables in one piece, and by themselves. */
    const [inPiece, alone] = [
      [false, false],
      [false, false],
    ];
    for (const [name, tensor] of tensors) {
      if (!isInBody(tensor)) return undefined;
      if (name === 'dense') dense = tensor;
      else if (name === 'user.dense') userDense = tensor;
      else if (name === 'users') users = tensor;
      else {
        const place = this.#names.places.get(name);
        if (place === undefined) return undefined;
        let group = groups.get(place.group);
        if (group === undefined) {
          group = noTensors();
          groups.set(place.group, group);
        }
        group[place.role] = tensor;
        (place.group.inPiece ? inPiece : alone)[Number(place.group.perUser)] = true;
      }
    }
    // Within a part, tensors by table are refused beside a piece.
    const isMixed = inPiece.some((has, part) => has && alone[part]);
    return isMixed ? undefined : { groups, dense, userDense, users };
  }

  /** The order of the tables in a part's piece; undefined: it has none. null: it is not the model's. */
  #order(groups: Groups, perUser: boolean, json: string | undefined): readonly number[] | undefined | null {
    for (const group of groups.keys())
      if (group.inPiece && group.perUser === perUser) return this.#names.order(json) ?? null;
    return json === undefined ? undefined : null;
  }
}

/** [rows, width] of float32; of users also [width] of one. null: another dtype or shape. */
function matrix(tensor: BodyTensor | undefined, ofUsers: boolean): Matrix | undefined | null {
  if (tensor === undefined) return undefined;
  const { dtype, shape, byteOffset } = tensor;
  const [rows, width] = ofUsers && shape.length === 1 ? [1, shape[0]] : shape;
  if (dtype !== 'float32' || shape.length > 2 || rows === undefined || width === undefined) return null;
  return { rows, width, byteOffset };
}

/** How many samples, or users, there are by lengths or bags of one length; undefined: neither says it. */
function sizeOf(groups: Groups, perUser: boolean, order: readonly number[] | undefined): number | undefined {
  for (const [group, { lengths, offsets, indices, values }] of groups) {
    if (group.perUser !== perUser || offsets !== undefined) continue;
    if (!group.inPiece) return lengths === undefined ? (indices ?? values)?.shape[0] : elementsIn(lengths);
    return lengths === undefined || order === undefined || order.length === 0
      ? undefined
      : elementsIn(lengths) / order.length;
  }
  return undefined;
}

/** [U + 1]; undefined: no users. null: nothing says how many there are, or they have other samples. */
function usersOf(
  { body }: TensorRequest,
  { groups, userDense, users }: Sorted,
  samples: number,
  count: number | undefined,
): Int32Array | undefined | null {
  const isShared = userDense !== undefined || [...groups.keys()].some(({ perUser }) => perUser);
  if (users === undefined) {
    if (!isShared) return undefined;
    return count === 1 ? Int32Array.of(0, samples) : null;
  }
  if (!isList(users) || (isShared && (count === undefined || !Number.isInteger(count)))) return null;
  const { data } = elementsOf(body, users);
  if (!(data instanceof Int32Array || data instanceof BigInt64Array)) return null;
  const starts = userStarts(data, count);
  return starts.length > 1 && starts.at(-1) === samples ? starts : null;
}
