/** Inference requests and answers as gRPC's messages. */
import { at } from '../../at.ts';
import { RequestError } from '../../errors.ts';
import type { HostTensor } from '../../tensor.ts';
import type { GivenOutput } from '../protocol/answer.ts';
import type { ServedModel } from '../protocol/documents.ts';
import type { TensorRequest, WireTensor } from '../protocol/infer-request.ts';
import { invalid, shortName } from '../protocol/refuse.ts';
import { jsonParameters, NO_PARAMETERS, refuseSharedMemory } from '../protocol/request-parameters.ts';
import { metadataOf, type TensorShape, tensorAt, tensorShape } from '../protocol/tensor-request.ts';
import { encode } from './codec/encode.ts';
import {
  type InferInputTensor,
  type InferParameter,
  InferTensorContents,
  type ModelInferRequest,
  ModelInferResponse,
} from './codec/messages.ts';
import { FRAME_BYTES, framed } from './frames.ts';

type Contents = keyof InferTensorContents;

/** Where elements stand that are not sent as bytes. */
const CONTENTS: ReadonlyMap<TensorShape['dtype'], Contents> = new Map([
  ['float32', 'fp32_contents'],
  ['float64', 'fp64_contents'],
  ['int32', 'int_contents'],
  ['int64', 'int64_contents'],
  ['string', 'bytes_contents'],
]);
/** How outputs are given where a request says nothing. */
const IN_BYTES = { ...NO_PARAMETERS, binary: true };
const ALL_CONTENTS = InferTensorContents.fields.map(({ name }) => name as Contents);

/**
 * The request of a message that was read from `body`. Raw tensors stay where they are.
 * @throws RequestError REQUEST_INVALID, TENSOR_DTYPE, TENSOR_SHAPE naming the tensor.
 */
export function inferRequest(message: ModelInferRequest, body: Uint8Array): TensorRequest {
  const { id, inputs, outputs, raw_input_contents: raw } = message;
  const parameters = parametersOf(message.parameters);
  if (raw.length > 0 && raw.length !== inputs.length)
    invalid(`there are ${inputs.length} inputs, and ${raw.length} raw_input_contents`, {
      hint: 'raw_input_contents has the bytes of each input, in their order, or is empty',
    });
  const tensors = new Map<string, WireTensor>();
  for (const [i, input] of inputs.entries()) {
    const { name } = input;
    if (name === '') invalid(`inputs[${i}] has no name`);
    if (tensors.has(name)) invalid(`tensor ${shortName(name)} stands twice in inputs`, { tensor: name });
    if (input.parameters.size > 0) refuseSharedMemory(parametersOf(input.parameters), shortName(name));
    const own = raw[i];
    if (own === undefined) tensors.set(name, typedTensor(input));
    else {
      refuseContents(input, 'raw_input_contents');
      const expected = tensorShape(name, input.datatype, shapeOf(input));
      tensors.set(name, tensorAt(expected, body, own.byteOffset - body.byteOffset, own.length, name));
    }
  }
  const said = {
    parameters,
    ...(id === '' ? {} : { id }),
    outputs: outputs.map(({ name, parameters }) => ({ name, parameters: parametersOf(parameters) })),
  };
  return { ...jsonParameters(said, IN_BYTES), body, tensors, metadata: metadataOf(said) };
}

/** The tensor whose elements stand in its `contents`. */
function typedTensor(input: InferInputTensor): WireTensor {
  const { name, datatype, contents = InferTensorContents.empty } = input;
  const what = shortName(name);
  const { dtype, shape, count } = tensorShape(name, datatype, shapeOf(input));
  const member = CONTENTS.get(dtype);
  if (member === undefined)
    return invalid(`${what}: elements of ${datatype} have no place in contents`, {
      tensor: name,
      hint: 'send all tensors in raw_input_contents',
    });
  refuseContents(input, datatype, member);
  const elements = contents[member];
  if (elements.length !== count)
    throw new RequestError(
      'TENSOR_SHAPE',
      `${what}: ${elements.length} elements in ${member}, shape [${shape}] has ${count}`,
      { tensor: name },
    );
  if (dtype === 'string') return { dtype, shape, strings: textsOf(elements as readonly Uint8Array[], name) };
  return { dtype, shape, data: elements as HostTensor['data'] };
}

/** What is not looked at would be missed silently. `but`: the member that is. */
function refuseContents({ name, contents }: InferInputTensor, beside: string, but?: Contents): void {
  if (contents === undefined) return;
  for (const member of ALL_CONTENTS)
    if (member !== but && contents[member].length > 0)
      invalid(`${shortName(name)} has ${member} beside ${beside}`, { tensor: name });
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function textsOf(elements: readonly Uint8Array[], tensor: string): readonly string[] {
  return elements.map((bytes, position) => {
    try {
      return decoder.decode(bytes);
    } catch {
      return invalid(`${shortName(tensor)}: element ${position} is not UTF-8`, { tensor, position });
    }
  });
}

/** Extents as numbers; those beyond 2^53 are too large in any case. */
function shapeOf({ shape }: InferInputTensor): readonly number[] {
  return Array.from(shape, Number);
}

/** Values as JSON has them. 64-bit integers are those of timeouts, where a double is exact enough. */
function parametersOf(parameters: ReadonlyMap<string, InferParameter>): Readonly<Record<string, unknown>> {
  if (parameters.size === 0) return {};
  return Object.fromEntries(
    [...parameters].map(([name, { bool_param, int64_param, string_param, double_param, uint64_param }]) => {
      const integer = int64_param ?? uint64_param;
      return [name, bool_param ?? string_param ?? double_param ?? (integer && Number(integer))];
    }),
  );
}

/** The framed answer of a model: outputs as bytes. Arrays: by the model's outputs, float32 [samples, width]. */
export function inferResponse(
  { name, version, outputs }: Pick<ServedModel, 'name' | 'version' | 'outputs'>,
  samples: number,
  arrays: readonly Float32Array[],
  given: readonly GivenOutput[],
  id: string | undefined,
): Buffer {
  const answer = {
    model_name: name,
    model_version: version,
    id: id ?? '',
    outputs: given.map(({ index }) => {
      const { name, width } = at(outputs, index);
      return { name, datatype: 'FP32', shape: [samples, width] };
    }),
    raw_output_contents: given.map(({ index }) => {
      const { buffer, byteOffset, byteLength } = at(arrays, index);
      return new Uint8Array(buffer, byteOffset, byteLength);
    }),
  };
  return framed(encode(ModelInferResponse, answer, FRAME_BYTES));
}
