/** A request's body for HTTP as a message of gRPC, in its frame. */
import type { encodeRequest } from '../src/load/encode-request.ts';
import { encode } from '../src/serve/grpc/codec/encode.ts';
import { ModelInferRequest } from '../src/serve/grpc/codec/messages.ts';
import { FRAME_BYTES, framed } from '../src/serve/grpc/frames.ts';

/** The path of inference. */
export const INFER = '/inference.GRPCInferenceService/ModelInfer';

export function grpcBody(model: string, { body, jsonBytes }: ReturnType<typeof encodeRequest>): Buffer {
  const { inputs } = JSON.parse(body.subarray(0, jsonBytes).toString()) as {
    readonly inputs: readonly {
      readonly name: string;
      readonly datatype: string;
      readonly shape: readonly number[];
      readonly parameters: { readonly binary_data_size: number };
    }[];
  };
  let begin = jsonBytes;
  const raw = inputs.map(({ parameters: { binary_data_size: bytes } }) => {
    begin += bytes;
    return body.subarray(begin - bytes, begin);
  });
  const message = {
    model_name: model,
    inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape: shape.map(BigInt) })),
    raw_input_contents: raw,
  };
  return framed(encode(ModelInferRequest, message, FRAME_BYTES));
}
