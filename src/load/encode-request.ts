/** Requests as messages of the Open Inference Protocol with the binary extension. */
import { at } from '../at.ts';
import { type Bags, bagCount } from '../embedding/bag.ts';
import type { DlrmRequest } from '../model/request/request.ts';

export type IndexType = 'int32' | 'int64';

export interface RequestForm {
  /** Names of the features, in the model's order. */
  readonly features: readonly string[];
  /** Of `values`; lengths and users are int32. */
  readonly indexType: IndexType;
  /** Dense features, the first ones, that stand in the user's part of a request with users. */
  readonly userDense: number;
  /** The server is to give the request up after so long. */
  readonly timeoutUs?: number;
  readonly priority?: number;
}

interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Int32Array | BigInt64Array | Float32Array;
}

/**
 * The body of a request: JSON of `jsonBytes`, a multiple of 8, then the tensors of the form in one piece: `dense` [B, F], `values`
 * [lookups] and `lengths` [T, B], int32 or int64, and `weights` [lookups] where bags have them; a user's part after `user.`. Where
 * features stand in both parts, the parameters `features` and `user.features` list them, as the metadata of safetensors does.
 */
export function encodeRequest(
  request: DlrmRequest,
  form: RequestForm,
): { readonly body: Buffer; readonly jsonBytes: number } {
  const tensors = requestTensors(request, form);
  const { timeoutUs, priority } = form;
  const json = JSON.stringify({
    inputs: tensors.map(({ name, shape, data }) => ({
      name,
      shape,
      datatype: datatype(data),
      parameters: { binary_data_size: data.byteLength },
    })),
    parameters: {
      binary_data_output: true,
      ...(timeoutUs === undefined ? {} : { timeout: timeoutUs }),
      ...(priority === undefined ? {} : { priority }),
      ...featureLists(request, form.features),
    },
  });
  const bytes = Buffer.byteLength(json);
  const padded = Buffer.from(json + ' '.repeat((8 - (bytes % 8)) % 8));
  const parts = tensors.map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  return { body: Buffer.concat([padded, ...parts]), jsonBytes: padded.length };
}

/** `path` and the rest of the request line's message, ahead of a body. `headers`: what all requests have. */
export function withHead(
  { body, jsonBytes }: ReturnType<typeof encodeRequest>,
  path: string,
  headers: Readonly<Record<string, string>>,
): Buffer {
  const all = {
    ...headers,
    'Content-Type': 'application/octet-stream',
    'Inference-Header-Content-Length': jsonBytes,
    'Content-Length': body.length,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1'), body]);
}

function featureLists({ bags }: DlrmRequest, features: readonly string[]): Record<string, string> {
  const isUsers = bags.map(({ perUser }) => perUser === true);
  if (!isUsers.includes(true)) return {};
  const own = features.filter((_, t) => isUsers[t] !== true);
  const ofUser = features.filter((_, t) => isUsers[t] === true);
  return {
    ...(own.length === 0 ? {} : { features: JSON.stringify(own) }),
    'user.features': JSON.stringify(ofUser),
  };
}

function requestTensors(request: DlrmRequest, form: RequestForm): Tensor[] {
  const { bags, users } = request;
  const ofUser = bags.filter(({ perUser }) => perUser === true);
  const own = bags.filter(({ perUser }) => perUser !== true);
  const tensors = [...denseTensors(request, form)];
  if (ofUser.length > 0) tensors.push(...lookupTensors('user.', ofUser, request, form.indexType));
  if (own.length > 0) tensors.push(...lookupTensors('', own, request, form.indexType));
  // Without lookups of its own, nothing else says how many candidates there are.
  if (users !== undefined && (users.length > 2 || own.length === 0)) {
    const counts = users.subarray(1).map((end, u) => end - at(users, u));
    tensors.push({ name: 'users', shape: [counts.length], data: counts });
  }
  return tensors;
}

/** The dense features of samples, or of users and candidates. */
function denseTensors({ batchSize, dense, denseFeatures, users }: DlrmRequest, form: RequestForm): Tensor[] {
  if (denseFeatures === 0) return [];
  if (users === undefined) return [{ name: 'dense', shape: [batchSize, denseFeatures], data: dense }];
  const userCount = users.length - 1;
  const width = form.userDense;
  const ofUsers = columns(dense, denseFeatures, users.subarray(0, userCount), 0, width);
  const samples = Int32Array.from({ length: batchSize }, (_, b) => b);
  const own = columns(dense, denseFeatures, samples, width, denseFeatures);
  return [
    { name: 'user.dense', shape: [userCount, width], data: ofUsers },
    { name: 'dense', shape: [batchSize, denseFeatures - width], data: own },
  ].filter(({ data }) => data.length > 0);
}

/** Columns [from, to) of some rows of a matrix. */
function columns(
  dense: Float32Array,
  width: number,
  rows: Int32Array,
  from: number,
  to: number,
): Float32Array {
  const chosen = new Float32Array(rows.length * (to - from));
  rows.forEach((row, i) => {
    chosen.set(dense.subarray(row * width + from, row * width + to), i * (to - from));
  });
  return chosen;
}

/** Bags in one piece, feature after feature. */
function lookupTensors(
  prefix: string,
  bags: readonly Bags[],
  request: DlrmRequest,
  indexType: IndexType,
): Tensor[] {
  const each = bagCount(at(bags, 0), request);
  const lookups = bags.reduce((sum, { indices }) => sum + indices.length, 0);
  const values = indexType === 'int32' ? new Int32Array(lookups) : new BigInt64Array(lookups);
  const lengths = new Int32Array(bags.length * each);
  const isWeighted = bags.some(({ weights }) => weights !== undefined);
  const weights = new Float32Array(isWeighted ? lookups : 0).fill(1);
  let position = 0;
  bags.forEach((own, f) => {
    if (values instanceof BigInt64Array) values.set(wide(own.indices), position);
    else values.set(narrow(own.indices), position);
    if (own.weights !== undefined) weights.set(own.weights, position);
    for (let b = 0; b < each; b++) {
      const end = b + 1 < own.offsets.length ? own.offsets[b + 1] : own.indices.length;
      lengths[f * each + b] = Number(end) - Number(own.offsets[b]);
    }
    position += own.indices.length;
  });
  return [
    { name: `${prefix}values`, shape: [lookups], data: values },
    { name: `${prefix}lengths`, shape: [bags.length, each], data: lengths },
    ...(isWeighted ? [{ name: `${prefix}weights`, shape: [lookups], data: weights }] : []),
  ];
}

const wide = (indices: Bags['indices']) =>
  indices instanceof BigInt64Array ? indices : BigInt64Array.from(indices, BigInt);
const narrow = (indices: Bags['indices']) =>
  indices instanceof Int32Array ? indices : Int32Array.from(indices, Number);

function datatype(data: Tensor['data']): string {
  if (data instanceof Float32Array) return 'FP32';
  return data instanceof BigInt64Array ? 'INT64' : 'INT32';
}
