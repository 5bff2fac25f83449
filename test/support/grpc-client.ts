/** A client of gRPC that shares nothing with src but the .proto files: @grpc/grpc-js. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { bytesOf, type SentTensor, type SentTensors } from './infer-bodies.ts';

const proto = (name: string) => fileURLToPath(new URL(`../../schemas/${name}.proto`, import.meta.url));
const described = grpc.loadPackageDefinition(
  loadSync([proto('inference'), proto('health'), proto('row_patches')], {
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
  }),
) as unknown as {
  readonly inference: { readonly GRPCInferenceService: grpc.ServiceClientConstructor };
  readonly hotrow: { readonly RowPatches: grpc.ServiceClientConstructor };
  readonly grpc: { readonly health: { readonly v1: { readonly Health: grpc.ServiceClientConstructor } } };
};

type Call = (
  request: object,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  done: (error: grpc.ServiceError | null, answer?: never) => void,
) => grpc.ClientUnaryCall;
type Stream = (request: object) => grpc.ClientReadableStream<{ readonly status: string }>;

/** Whatever the .proto says, as of parsed JSON. */
type Answer = ReturnType<typeof JSON.parse>;

/** A call on its way. */
export interface Asked<T> {
  readonly answer: Promise<T>;
  cancel(): void;
}

export class GrpcClient implements Disposable {
  readonly #inference: grpc.Client;
  readonly #health: grpc.Client;
  readonly #patches: grpc.Client;

  /** `credentials`: of a server with TLS. */
  constructor(
    port: number,
    options: grpc.ClientOptions = {},
    credentials: grpc.ChannelCredentials = grpc.credentials.createInsecure(),
  ) {
    const own: grpc.ClientOptions = {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': -1,
      ...options,
    };
    const address = `127.0.0.1:${port}`;
    this.#inference = new described.inference.GRPCInferenceService(address, credentials, own);
    this.#health = new described.grpc.health.v1.Health(address, credentials, own);
    this.#patches = new described.hotrow.RowPatches(address, credentials, own);
  }

  ask(
    method: string,
    request: object = {},
    options: grpc.CallOptions = {},
    headers: Record<string, string> = {},
  ): Asked<Answer> {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    const service = { Check: this.#health, Apply: this.#patches }[method] ?? this.#inference;
    const client = service as unknown as Record<string, Call>;
    let call: grpc.ClientUnaryCall | undefined;
    const answer = new Promise((resolve, reject) => {
      call = client[method]?.(request, metadata, options, (error, answer) =>
        error === null ? resolve(answer) : reject(error),
      );
    });
    return { answer, cancel: () => call?.cancel() };
  }

  call(
    method: string,
    request: object = {},
    options: grpc.CallOptions = {},
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    return this.ask(method, request, options, headers).answer;
  }

  watch(service: string): grpc.ClientReadableStream<{ readonly status: string }> {
    return (this.#health as unknown as { readonly Watch: Stream }).Watch({ service });
  }

  [Symbol.dispose](): void {
    this.#inference.close();
    this.#health.close();
    this.#patches.close();
  }
}

const DATATYPES: Readonly<Record<string, readonly [datatype: string, contents: string | undefined]>> = {
  float32: ['FP32', 'fp32_contents'],
  float16: ['FP16', undefined],
  float64: ['FP64', 'fp64_contents'],
  int32: ['INT32', 'int_contents'],
  int64: ['INT64', 'int64_contents'],
};

function contentsOf(tensor: SentTensor): object {
  if (!('data' in tensor)) return { bytes_contents: tensor.strings.map((text) => Buffer.from(text)) };
  const [, member] = DATATYPES[tensor.dtype] ?? [];
  assert.ok(member !== undefined);
  const list = Array.from(tensor.data as ArrayLike<number | bigint>, (value) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  return { [member]: list };
}

const parameter = (value: unknown): object =>
  typeof value === 'boolean'
    ? { bool_param: value }
    : typeof value === 'number'
      ? Number.isInteger(value)
        ? { int64_param: value }
        : { double_param: value }
      : { string_param: typeof value === 'string' ? value : JSON.stringify(value) };
const parametersOf = (values: object): object =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, parameter(value)]));

/** A request; `typed`: elements stand in `contents`. */
export function inferMessage(
  model: string,
  tensors: SentTensors,
  {
    typed = false,
    parameters = {},
    outputs = [],
    ...others
  }: {
    readonly typed?: boolean;
    readonly parameters?: object;
    readonly outputs?: readonly { readonly name: string; readonly parameters?: object }[];
    readonly id?: string;
    readonly model_version?: string;
  } = {},
): object {
  return {
    model_name: model,
    ...others,
    parameters: parametersOf(parameters),
    inputs: Object.entries(tensors).map(([name, tensor]) => ({
      name,
      datatype: 'data' in tensor ? DATATYPES[tensor.dtype]?.[0] : 'BYTES',
      shape: tensor.shape,
      ...(typed ? { contents: contentsOf(tensor) } : {}),
    })),
    outputs: outputs.map(({ name, parameters = {} }) => ({ name, parameters: parametersOf(parameters) })),
    raw_input_contents: typed ? [] : Object.values(tensors).map(bytesOf),
  };
}

interface Answered {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly outputs: readonly {
    readonly name: string;
    readonly datatype: string;
    readonly shape: readonly string[];
  }[];
  readonly raw_output_contents: readonly Uint8Array[];
}

/** An answer's outputs by name, and the rest of it. */
export function grpcOutputs({ model_name, model_version, id, outputs, raw_output_contents: raw }: Answered) {
  assert.equal(raw.length, outputs.length);
  const found: Record<string, number[]> = {};
  for (const [i, { name, datatype, shape }] of outputs.entries()) {
    assert.equal(datatype, 'FP32');
    found[name] = [...new Float32Array(Uint8Array.from(raw[i] as Uint8Array).buffer)];
    assert.equal(
      found[name].length,
      shape.reduce((product, extent) => product * Number(extent), 1),
    );
  }
  return { model_name, model_version, ...(id === '' ? {} : { id }), outputs: found };
}

/** Asserts that a call fails as the server says it; gives back the status' name and the error's code. */
export async function grpcRefusal(answer: Promise<unknown>): Promise<string> {
  try {
    await answer;
  } catch (error) {
    const { code, details, metadata } = error as grpc.ServiceError;
    const [own] = metadata.get('hotrow-code');
    if (own !== undefined) {
      assert.ok(details.startsWith(`${own}: `), details);
      assert.match(details, / \(.+\)$/s);
    }
    return `${grpc.status[code]} ${own}`;
  }
  return assert.fail('the call was answered');
}
