/** A request of one sample, as a client sends it: tensors as bytes behind JSON. */
import type { ServedModel } from '../protocol/documents.ts';

/** One lookup of row 0 per feature, and dense features of 0. */
export function smallestRequest({ inputs }: Pick<ServedModel, 'inputs'>): {
  readonly body: Buffer;
  readonly jsonLength: number;
} {
  const [features, dense] = [inputs.features.length, inputs.dense.length];
  const tensors = [
    ...(dense === 0 ? [] : [tensor('dense', 'FP32', [1, dense], new Float32Array(dense))]),
    tensor('values', 'INT64', [features], new BigInt64Array(features)),
    tensor('lengths', 'INT32', [features, 1], new Int32Array(features).fill(1)),
  ];
  const json = Buffer.from(
    JSON.stringify({
      inputs: tensors.map(({ told }) => told),
      parameters: { binary_data_output: true },
    }),
  );
  return { body: Buffer.concat([json, ...tensors.map(({ bytes }) => bytes)]), jsonLength: json.length };
}

function tensor(name: string, datatype: string, shape: readonly number[], data: ArrayBufferView) {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return { told: { name, datatype, shape, parameters: { binary_data_size: bytes.length } }, bytes };
}
