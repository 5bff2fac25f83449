/** An inference request as it came in, in whatever form: named tensors or samples, and what is asked about them. */
import type { JsonSamples } from '../../model/request/json-samples.ts';
import type { StringTensor } from '../../model/request/request-tensors.ts';
import { type DType, type HostTensor, viewElements } from '../../tensor.ts';

/** A tensor whose elements lie in the request's body, row-major and little-endian, at any alignment. */
export interface BodyTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** From the start of the body. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** A tensor of a request: in its body, made from numbers in JSON, or of strings. */
export type WireTensor = BodyTensor | HostTensor | StringTensor;

/** An output that the client asks for. */
export interface OutputAsked {
  readonly name: string;
  /** Whether its elements are to stand behind the JSON, as bytes; else in it. */
  readonly binary: boolean;
}

/** What a client says about a request. */
export interface InferParameters {
  /** Given back with the answer. */
  readonly id: string | undefined;
  /** µs from its arrival in which the answer is of use, 0 < … < 2^64; undefined: the server's default. */
  readonly timeoutMicros: number | undefined;
  /** 0: the default level; else 1 is the highest, larger numbers come later. */
  readonly priority: number;
  /** Undefined: all. */
  readonly outputs: readonly OutputAsked[] | undefined;
  /** How outputs are given that are not asked for one by one. */
  readonly binary: boolean;
}

/** A request of tensors, named as in docs/requests.md. */
export interface TensorRequest extends InferParameters {
  /** What body tensors lie in. */
  readonly body: Uint8Array;
  readonly tensors: ReadonlyMap<string, WireTensor>;
  /** `features` and `user.features`: JSON lists of names, where `values` stand in one piece. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** A request of samples in JSON. */
export interface SamplesRequest extends InferParameters {
  readonly samples: JsonSamples;
}

export type InferRequest = TensorRequest | SamplesRequest;

export function isInBody(tensor: WireTensor): tensor is BodyTensor {
  return 'byteOffset' in tensor;
}

/** The tensor's elements; copied only where they are not aligned. */
export function elementsOf(
  body: Uint8Array,
  { dtype, shape, byteOffset, byteLength }: BodyTensor,
): HostTensor {
  return { dtype, shape, data: viewElements(dtype, body.subarray(byteOffset, byteOffset + byteLength)) };
}
