/**
 * Requests: dense features and, per table, bags of lookups, as a safetensors file.
 *
 * `dense` [B, F]; per table t `indices.{t}` [lookups] and `offsets.{t}` [B] or [B + 1], or stacked `indices`
 * [T, lookups] and `offsets` [T, B] or [T, B + 1]; optional `weights.{t}` or `weights`, shaped as the indices.
 */
import type { BagBatch, Bags, IndexArray } from '../embedding/bag.ts';
import { RequestError, type RequestErrorCode } from '../errors.ts';
import { readSafetensors, writeSafetensors } from '../formats/safetensors.ts';
import { readTensor } from '../stored-tensor.ts';
import { elementCount, type HostTensor, type StoredTensor, toFloat32 } from '../tensor.ts';

/** One batch to score. */
export interface DlrmRequest extends BagBatch {
  /** [batchSize, denseFeatures], row-major. */
  readonly dense: Float32Array;
  /** Width of a row of `dense`. */
  readonly denseFeatures: number;
}

const PARTS = ['indices', 'offsets', 'weights'] as const;
type Part = (typeof PARTS)[number];

/**
 * Reads a request. Index values are checked when it runs, against the model's tables.
 * @throws UsageError FILE_*; FormatError SAFETENSORS_INVALID; RequestError naming file and tensor.
 */
export async function readRequest(file: string): Promise<DlrmRequest> {
  const { tensors } = await readSafetensors(file);
  const reader = new RequestReader(file, tensors);
  const { dense, batchSize, denseFeatures } = await reader.dense();
  const stacked = tensors.has('indices') || tensors.has('offsets');
  const bags = stacked ? await reader.stackedBags() : await reader.bagsPerTable();
  bags.forEach((own, t) => {
    reader.checkLengths(own, t, batchSize, stacked ? '' : `.${t}`);
  });
  return { batchSize, dense, denseFeatures, bags };
}

/** Writes a request with tensors per table. @throws UsageError FILE_UNWRITABLE. */
export async function writeRequest(file: string, request: DlrmRequest): Promise<void> {
  const { batchSize, dense, denseFeatures, bags } = request;
  const tensors = new Map<string, HostTensor>([
    ['dense', { dtype: 'float32', shape: [batchSize, denseFeatures], data: dense }],
  ]);
  bags.forEach(({ indices, offsets, weights }, t) => {
    tensors.set(`indices.${t}`, integers(indices));
    tensors.set(`offsets.${t}`, integers(offsets));
    if (weights !== undefined)
      tensors.set(`weights.${t}`, { dtype: 'float32', shape: [weights.length], data: weights });
  });
  await writeSafetensors(file, tensors);
}

function integers(data: IndexArray): HostTensor {
  return { dtype: data instanceof BigInt64Array ? 'int64' : 'int32', shape: [data.length], data };
}

/** Reads the parts of one file. */
class RequestReader {
  readonly #file: string;
  readonly #tensors: ReadonlyMap<string, StoredTensor>;

  constructor(file: string, tensors: ReadonlyMap<string, StoredTensor>) {
    this.#file = file;
    this.#tensors = tensors;
  }

  #fail(code: RequestErrorCode, tensor: string, message: string, hint?: string): never {
    throw new RequestError(code, `${this.#file}: ${message}`, {
      file: this.#file,
      tensor,
      ...(hint === undefined ? {} : { hint }),
    });
  }

  async #read(name: string): Promise<HostTensor> {
    const tensor = this.#tensors.get(name);
    return tensor === undefined
      ? this.#fail('TENSOR_MISSING', name, `tensor ${name} is missing`)
      : readTensor(tensor);
  }

  async dense(): Promise<{ dense: Float32Array; batchSize: number; denseFeatures: number }> {
    const tensor = await this.#read('dense');
    const { dtype, shape } = tensor;
    if (dtype !== 'float32' && dtype !== 'float16' && dtype !== 'bfloat16') {
      this.#fail('TENSOR_DTYPE', 'dense', `dense is ${dtype}, must be float32, float16 or bfloat16`);
    }
    const [batchSize, denseFeatures] = shape;
    if (shape.length !== 2 || batchSize === undefined || denseFeatures === undefined) {
      this.#fail('TENSOR_SHAPE', 'dense', `dense has shape [${shape}], must be [B, F]`);
    }
    return { dense: toFloat32(tensor), batchSize, denseFeatures };
  }

  /** `indices.{t}`, `offsets.{t}`, `weights.{t}`. */
  async bagsPerTable(): Promise<Bags[]> {
    const tables = new Set<number>();
    for (const name of this.#tensors.keys()) {
      if (name === 'dense') continue;
      const match = /^(indices|offsets|weights)\.(0|[1-9]\d*)$/.exec(name);
      if (match === null) {
        this.#fail(
          'TENSOR_UNEXPECTED',
          name,
          `tensor ${name} has no place in a request`,
          'a request holds dense, indices.{t}, offsets.{t} and weights.{t}',
        );
      }
      tables.add(Number(match[2]));
    }
    const bags: Bags[] = [];
    for (let t = 0; t < tables.size; t++) {
      if (!tables.has(t)) {
        const next = [...tables].reduce((min, table) => (table > t ? Math.min(min, table) : min), Infinity);
        throw new RequestError(
          'TABLE_MISSING',
          `${this.#file}: table ${t} is missing, while table ${next} is there`,
          {
            file: this.#file,
            table: t,
            tensor: `indices.${t}`,
          },
        );
      }
      const weights = this.#tensors.has(`weights.${t}`)
        ? this.#weights(`weights.${t}`, await this.#vector(`weights.${t}`))
        : undefined;
      bags.push({
        indices: this.#integers(`indices.${t}`, await this.#vector(`indices.${t}`)),
        offsets: this.#integers(`offsets.${t}`, await this.#vector(`offsets.${t}`)),
        ...(weights === undefined ? {} : { weights }),
      });
    }
    return bags;
  }

  /** `indices` [T, lookups], `offsets` [T, B | B + 1], `weights` [T, lookups]. */
  async stackedBags(): Promise<Bags[]> {
    const mixed = [...this.#tensors.keys()].find(
      (name) => name !== 'dense' && !(PARTS as readonly string[]).includes(name),
    );
    if (mixed !== undefined) {
      this.#fail(
        'TENSOR_UNEXPECTED',
        mixed,
        `tensor ${mixed} stands beside stacked indices and offsets`,
        'stack all tables, or none',
      );
    }
    const indices = await this.#stack('indices');
    const offsets = await this.#stack('offsets', indices.shape[0]);
    const weights = this.#tensors.has('weights') ? await this.#stack('weights', indices.shape[0]) : undefined;
    return Array.from({ length: indices.shape[0] as number }, (_, t) => ({
      indices: this.#integers('indices', row(indices, t)),
      offsets: this.#integers('offsets', row(offsets, t)),
      ...(weights === undefined ? {} : { weights: this.#weights('weights', row(weights, t)) }),
    }));
  }

  /** Offsets are B or B + 1, weights as many as lookups; what the offsets say is checked when the request runs. */
  checkLengths({ indices, offsets, weights }: Bags, table: number, batchSize: number, suffix: string): void {
    const fail = (part: Part, message: string): never => {
      const details = { file: this.#file, tensor: `${part}${suffix}`, table };
      throw new RequestError('TENSOR_SHAPE', `${this.#file}: table ${table}: ${message}`, details);
    };
    if (offsets.length !== batchSize && offsets.length !== batchSize + 1) {
      fail(
        'offsets',
        `${offsets.length} offsets for a batch of ${batchSize}; expected ${batchSize} or ${batchSize + 1}`,
      );
    }
    if (weights !== undefined && weights.length !== indices.length)
      fail('weights', `${weights.length} weights for ${indices.length} lookups`);
  }

  async #vector(name: string): Promise<HostTensor> {
    const tensor = await this.#read(name);
    if (tensor.shape.length !== 1)
      this.#fail('TENSOR_SHAPE', name, `${name} has shape [${tensor.shape}], must have one dimension`);
    return tensor;
  }

  async #stack(name: Part, tables?: number): Promise<HostTensor> {
    const tensor = await this.#read(name);
    const { shape } = tensor;
    if (shape.length !== 2)
      this.#fail('TENSOR_SHAPE', name, `stacked ${name} has shape [${shape}], must be [T, …]`);
    if (tables !== undefined && shape[0] !== tables) {
      this.#fail('TENSOR_SHAPE', name, `stacked ${name} has ${shape[0]} tables, indices have ${tables}`);
    }
    return tensor;
  }

  #integers(name: string, { dtype, data }: HostTensor): IndexArray {
    if (data instanceof Int32Array || data instanceof BigInt64Array) return data;
    return this.#fail('TENSOR_DTYPE', name, `${name} is ${dtype}, must be int32 or int64`);
  }

  #weights(name: string, { dtype, data }: HostTensor): Float32Array {
    return data instanceof Float32Array
      ? data
      : this.#fail('TENSOR_DTYPE', name, `${name} is ${dtype}, must be float32`);
  }
}

/** Row t of a matrix, as a vector over the same memory. */
function row({ dtype, shape, data }: HostTensor, t: number): HostTensor {
  const length = elementCount(shape.slice(1));
  return { dtype, shape: [length], data: data.subarray(t * length, (t + 1) * length) };
}
