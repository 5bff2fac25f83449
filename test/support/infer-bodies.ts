/** Bodies of inference requests by hand, in each form; they share nothing with src/serve. */
import type { HostTensor } from '../../src/tensor.ts';

/** Strings, or numbers. */
export type SentTensor =
  | HostTensor
  | { readonly shape: readonly number[]; readonly strings: readonly string[] };
export type SentTensors = Readonly<Record<string, SentTensor>>;

const DATATYPES: Readonly<Record<string, string>> = {
  float32: 'FP32',
  float16: 'FP16',
  bfloat16: 'BF16',
  float64: 'FP64',
  int32: 'INT32',
  int64: 'INT64',
};
const SAFETENSORS: Readonly<Record<string, string>> = {
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  float64: 'F64',
  int32: 'I32',
  int64: 'I64',
};

export interface SentBody {
  readonly body: Uint8Array;
  readonly jsonLength?: string;
  readonly contentType?: string;
}

export function bytesOf(tensor: SentTensor): Uint8Array {
  if ('data' in tensor)
    return new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  return Buffer.concat(
    tensor.strings.map((text) => {
      const bytes = Buffer.from(text);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return Buffer.concat([length, bytes]);
    }),
  );
}

const datatypeOf = (tensor: SentTensor) => ('data' in tensor ? DATATYPES[tensor.dtype] : 'BYTES');

/** Elements as JSON gives them: integers beyond 2^53 as strings. */
function jsonData(tensor: SentTensor): unknown[] {
  if (!('data' in tensor)) return [...tensor.strings];
  return Array.from(tensor.data as ArrayLike<number | bigint>, (value) =>
    typeof value === 'number' ? value : Number.isSafeInteger(Number(value)) ? Number(value) : String(value),
  );
}

/** A flat list as lists in lists. */
function nested(data: readonly unknown[], shape: readonly number[]): unknown {
  const [, ...inner] = shape;
  if (inner.length === 0) return data;
  const size = inner.reduce((product, extent) => product * extent, 1);
  return Array.from({ length: shape[0] as number }, (_, i) =>
    nested(data.slice(i * size, (i + 1) * size), inner),
  );
}

/** `extra`: other members of the request. `inJson`: which tensors stand in the JSON. `shift`: bytes before the body in its memory. */
export function protocolBody(
  tensors: SentTensors,
  {
    extra = {},
    inJson = () => false,
    nests = false,
    shift = 0,
  }: {
    readonly extra?: object;
    readonly inJson?: (name: string) => boolean;
    readonly nests?: boolean;
    readonly shift?: number;
  } = {},
): SentBody {
  const parts: Uint8Array[] = [];
  const inputs = Object.entries(tensors).map(([name, tensor]) => {
    const { shape } = tensor;
    const input = { name, datatype: datatypeOf(tensor), shape };
    if (inJson(name)) {
      const data = jsonData(tensor);
      return { ...input, data: nests ? nested(data, shape) : data };
    }
    const bytes = bytesOf(tensor);
    parts.push(bytes);
    return { ...input, parameters: { binary_data_size: bytes.length } };
  });
  const json = Buffer.from(JSON.stringify({ ...extra, inputs }));
  const body = shifted(Buffer.concat([json, ...parts]), shift);
  return { body, ...(parts.length === 0 ? {} : { jsonLength: String(json.length) }) };
}

/** The same bytes, `shift` bytes behind the start of their memory. */
export function shifted(bytes: Uint8Array, shift: number): Uint8Array {
  const memory = new Uint8Array(bytes.length + shift);
  memory.set(bytes, shift);
  return memory.subarray(shift);
}

export function safetensorsBody(
  tensors: Readonly<Record<string, HostTensor>>,
  metadata: Readonly<Record<string, string>> = {},
  shift = 0,
): SentBody {
  const parts: Uint8Array[] = [];
  let end = 0;
  const entries = Object.entries(tensors).map(([name, tensor]): [string, unknown] => {
    const bytes = bytesOf(tensor);
    parts.push(bytes);
    const begin = end;
    end += bytes.length;
    return [name, { dtype: SAFETENSORS[tensor.dtype], shape: tensor.shape, data_offsets: [begin, end] }];
  });
  const known: [string, unknown][] = Object.keys(metadata).length === 0 ? [] : [['__metadata__', metadata]];
  const header = Buffer.from(JSON.stringify(Object.fromEntries([...known, ...entries])));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return { body: shifted(Buffer.concat([length, header, ...parts]), shift) };
}
