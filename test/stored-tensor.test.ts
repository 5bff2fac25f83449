import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shareTied } from '../src/stored-tensor.ts';
import type { AssembledTensor, FileTensor, StoredTensor } from '../src/tensor.ts';

const tensor = (change: Partial<FileTensor> = {}): FileTensor => ({
  dtype: 'float32',
  shape: [4, 2],
  file: 'model.pt',
  byteOffset: 64,
  byteLength: 32,
  ...change,
});

test('tensors in the same bytes become one object, all others stay', () => {
  const { file, byteOffset: _, ...known } = tensor();
  const assembled: AssembledTensor = { ...known, files: [file], read: async () => {} };
  const others: [string, StoredTensor][] = [
    ['further on', tensor({ byteOffset: 96 })],
    ['another file', tensor({ file: 'other.pt' })],
    ['another shape', tensor({ shape: [2, 4] })],
    ['another type', tensor({ dtype: 'int32' })],
    ['annotated', tensor({ annotation: 'x' })],
    ['assembled', assembled],
    ['assembled too', { ...assembled }],
  ];
  const first = tensor();
  const tensors = new Map([['first', first], ...others, ['tied', tensor()]]);
  const shared = shareTied(tensors);
  assert.deepEqual([...shared.keys()], [...tensors.keys()]);
  assert.equal(shared.get('tied'), first);
  assert.equal(shared.get('first'), first);
  for (const [name, other] of others) assert.equal(shared.get(name), other, name);
});
