/** A reader of safetensors files that shares nothing with src/formats, for fixtures. */
import { readFileSync } from 'node:fs';
import { type DType, type HostTensor, viewElements } from '../../src/tensor.ts';

const DTYPES: Record<string, DType> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I32: 'int32',
  I64: 'int64',
};

export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, HostTensor>;
}

export function readSafetensors(file: string): SafetensorsFile {
  const bytes = readFileSync(file);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes));
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = new Map<string, HostTensor>();
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape, data_offsets } = entry as {
      dtype: string;
      shape: number[];
      data_offsets: [number, number];
    };
    const [begin, end] = data_offsets;
    const known = DTYPES[dtype];
    if (known === undefined) throw new Error(`${file}: ${name} is ${dtype}`);
    // A copy is aligned for every type.
    const part = new Uint8Array(bytes.subarray(8 + headerBytes + begin, 8 + headerBytes + end));
    tensors.set(name, { dtype: known, shape, data: viewElements(known, part) });
  }
  return { metadata, tensors };
}
