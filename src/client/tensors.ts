/** Tensors as they go over the wire: their datatypes, their bytes, and what messages of them are. */
import { ClientError, UsageError } from '../errors.ts';

/** Elements of a tensor. Arrays are row-major; strings are ids. */
export type TensorData = Float32Array | Float64Array | Int32Array | BigInt64Array | readonly string[];

/** A tensor of a request. */
export interface RequestTensor {
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** Tensors by name, as docs/requests.md names them. */
export type RequestTensors = Readonly<Record<string, RequestTensor>>;

/** An output of the model. */
export interface Output {
  /** [B, width]. */
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float32Array;
}

/** A body, and how many of its bytes are JSON. */
export interface Message {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly jsonBytes: number;
}

/** Where the bytes of a message are aligned for every datatype. */
const ALIGNMENT = 8;
const LENGTH_BYTES = 4;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * A request: JSON, then the tensors' bytes in the order of its inputs. Nothing of it refers to the caller's arrays.
 * @throws UsageError OPTION_INVALID where a shape has another number of elements than there are data.
 */
export function encodeMessage(
  tensors: RequestTensors,
  {
    id,
    outputs,
    parameters,
  }: {
    readonly id?: string;
    /** Names of those that are wanted; undefined: all. */
    readonly outputs?: readonly string[];
    readonly parameters?: Readonly<Record<string, unknown>>;
  },
): Message {
  const parts: Uint8Array[] = [];
  const inputs = Object.entries(tensors).map(([name, { shape, data }]) => {
    const elements = shape.reduce((product, extent) => product * extent, 1);
    if (elements !== data.length)
      throw new UsageError(
        'OPTION_INVALID',
        `tensor ${name} has ${data.length} elements, its shape says ${elements}`,
      );
    const bytes = bytesOf(data);
    parts.push(bytes);
    return { name, datatype: datatypeOf(data), shape, parameters: { binary_data_size: bytes.byteLength } };
  });
  const json = JSON.stringify({
    ...(id === undefined ? {} : { id }),
    inputs,
    ...(outputs === undefined ? {} : { outputs: outputs.map((name) => ({ name })) }),
    parameters: { ...parameters, binary_data_output: true },
  });
  const head = encoder.encode(json);
  const jsonBytes = Math.ceil(head.length / ALIGNMENT) * ALIGNMENT;
  const body = new Uint8Array(jsonBytes + parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  body.set(head);
  body.fill(0x20, head.length, jsonBytes);
  let place = jsonBytes;
  for (const part of parts) {
    body.set(part, place);
    place += part.byteLength;
  }
  return { body, jsonBytes };
}

function datatypeOf(data: TensorData): string {
  if (data instanceof Float32Array) return 'FP32';
  if (data instanceof Float64Array) return 'FP64';
  if (data instanceof Int32Array) return 'INT32';
  return data instanceof BigInt64Array ? 'INT64' : 'BYTES';
}

function bytesOf(data: TensorData): Uint8Array {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const texts = data.map((text) => encoder.encode(text));
  const bytes = new Uint8Array(texts.reduce((sum, { length }) => sum + LENGTH_BYTES + length, 0));
  const view = new DataView(bytes.buffer);
  let place = 0;
  for (const text of texts) {
    view.setUint32(place, text.length, true);
    bytes.set(text, place + LENGTH_BYTES);
    place += LENGTH_BYTES + text.length;
  }
  return bytes;
}

/** What an answer says. */
export interface InferAnswer {
  readonly model: string;
  readonly version: string | undefined;
  readonly id: string | undefined;
  /** By name, in the server's order. */
  readonly outputs: Readonly<Record<string, Output>>;
}

interface OutputHead {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly data?: readonly (number | null)[];
  readonly parameters?: { readonly binary_data_size?: number };
}

/** @throws ClientError SERVER_ANSWER_INVALID. `jsonBytes`: undefined where all is JSON. */
export function decodeAnswer(body: ArrayBuffer, jsonBytes: number | undefined): InferAnswer {
  const end = jsonBytes ?? body.byteLength;
  if (!(end <= body.byteLength)) throw invalid(`has ${body.byteLength} bytes, of which ${end} are JSON`);
  const head = jsonIn(new Uint8Array(body, 0, end)) as {
    readonly model_name?: unknown;
    readonly model_version?: unknown;
    readonly id?: unknown;
    readonly outputs?: unknown;
  } | null;
  if (typeof head !== 'object' || head === null || !Array.isArray(head.outputs))
    throw invalid('lists no outputs');
  const outputs: [string, Output][] = [];
  let place = end;
  for (const output of head.outputs as readonly OutputHead[]) {
    const { name, shape, data, parameters } = output;
    const what = `output ${String(name)}`;
    if (!Array.isArray(shape) || output.datatype !== 'FP32') throw invalid(`has no FP32 tensor as ${what}`);
    const elements = shape.reduce((product: number, extent) => product * Number(extent), 1);
    const bytes = parameters?.binary_data_size;
    let values: Float32Array;
    if (data !== undefined) values = Float32Array.from(data, (value) => value ?? Number.NaN);
    else {
      if (bytes !== 4 * elements || place + bytes > body.byteLength) throw invalid(`is cut in ${what}`);
      values = new Float32Array(body.slice(place, place + bytes));
      place += bytes;
    }
    if (values.length !== elements)
      throw invalid(`has ${values.length} elements of ${what}, not ${elements}`);
    outputs.push([String(name), { shape, data: values }]);
  }
  return {
    model: String(head.model_name),
    version: textIn(head.model_version),
    id: textIn(head.id),
    // By their own names, whatever these are.
    outputs: Object.fromEntries(outputs),
  };
}

/** A text's value; undefined: it is no JSON. */
export function jsonIn(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch {
    return undefined;
  }
}

function textIn(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function invalid(what: string): ClientError {
  return new ClientError('SERVER_ANSWER_INVALID', `the answer ${what}`);
}
