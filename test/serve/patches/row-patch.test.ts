/** Row patches: what passes is what can be stored, and all else is refused before anything changes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type PatchedModel, patchedRows, readPatch } from '../../../src/serve/patches/row-patch.ts';
import type { HostTensor } from '../../../src/tensor.ts';
import { safetensorsBody } from '../../support/infer-bodies.ts';
import { f32, i32, i64 } from '../../support/request-tensors.ts';

const MODEL: PatchedModel = {
  name: 'ads',
  version: '3',
  tables: [
    { name: 'user', rows: 10, dim: 2, rowFormat: 'float32' },
    { name: 'item', rows: 5, dim: 4, rowFormat: 'int8' },
    { name: 'half', rows: 5, dim: 2, rowFormat: 'float16' },
    { name: 'twice', rows: 5, dim: 2, rowFormat: 'float32' },
    { name: 'twice', rows: 5, dim: 2, rowFormat: 'float32' },
  ],
};
const FOR = { model: 'ads', version: '3', sequence: '17' };
const bytesOf = (tensors: Record<string, HostTensor>, metadata: Record<string, string> = FOR, shift = 0) =>
  safetensorsBody(tensors, metadata, shift).body;
const read = (tensors: Record<string, HostTensor>, metadata = FOR, shift = 0) =>
  readPatch(bytesOf(tensors, metadata, shift), 'the patch', MODEL);
const rows = i64([2], [9, 0]);
const values = f32([2, 2], [1, Number.NaN, 3, 4]);

test('rows of tables by their names and numbers, wherever the bytes lie', () => {
  for (const shift of [0, 1, 3]) {
    const patch = read(
      {
        'values.2': { dtype: 'float16', shape: [1, 2], data: Uint16Array.of(0x3c00, 0x4000) },
        'rows.user': rows,
        'values.user': values,
        'rows.half': i32([1], [4]),
        'rows.4': i32([0]),
        'values.4': f32([0, 2]),
      },
      FOR,
      shift,
    );
    assert.deepEqual([patch.model, patch.version, patch.sequence, patchedRows(patch)], ['ads', '3', 17, 3]);
    assert.deepEqual(patch.updates, [
      { table: 0, rows: BigInt64Array.of(9n, 0n), values: Float32Array.of(1, Number.NaN, 3, 4) },
      { table: 2, rows: Int32Array.of(4), values: Uint16Array.of(0x3c00, 0x4000) },
      { table: 4, rows: new Int32Array(), values: new Float32Array() },
    ]);
  }
});

describe('what is refused', () => {
  const tensors = { 'rows.user': rows, 'values.user': values };
  const cases: [string, Record<string, HostTensor>, Record<string, string>, string, RegExp][] = [
    ['no model', tensors, { version: '3', sequence: '1' }, 'PATCH_INVALID', /"model"/],
    ['no version', tensors, { model: 'ads', sequence: '1' }, 'PATCH_INVALID', /"version"/],
    ['no number', tensors, { model: 'ads', version: '3' }, 'PATCH_INVALID', /"sequence"/],
    ['another model', tensors, { ...FOR, model: 'feed' }, 'PATCH_INVALID', /for model feed, not for ads/],
    ['another version', tensors, { ...FOR, version: '2' }, 'PATCH_INVALID', /for version 2, and 3 is served/],
    ...['0', '-1', '1.5', '01', 'x', '', '9999999999'].map((sequence): (typeof cases)[number] => [
      `number ${sequence}`,
      tensors,
      { ...FOR, sequence },
      'PATCH_INVALID',
      /its sequence is/,
    ]),
    ['no rows at all', {}, FOR, 'PATCH_INVALID', /has no rows/],
    ['another tensor', { ...tensors, other: rows }, FOR, 'PATCH_INVALID', /tensor other is none/],
    ['rows alone', { 'rows.user': rows }, FOR, 'PATCH_INVALID', /rows without values/],
    ['values alone', { 'values.user': values }, FOR, 'PATCH_INVALID', /values without rows/],
    ['an unknown table', { 'rows.x': rows, 'values.x': values }, FOR, 'PATCH_INVALID', /no table x/],
    ['a number too large', { 'rows.5': rows, 'values.5': values }, FOR, 'PATCH_INVALID', /no table 5/],
    ['a name of two', { 'rows.twice': rows, 'values.twice': values }, FOR, 'PATCH_INVALID', /several tables/],
    ['a table twice', { ...tensors, 'rows.0': rows }, FOR, 'PATCH_INVALID', /twice: by name and by number/],
    ['rows of two axes', { ...tensors, 'rows.user': i64([1, 2], [1, 2]) }, FOR, 'PATCH_INVALID', /2 axes/],
    [
      'values of one',
      { ...tensors, 'values.user': f32([4]) },
      FOR,
      'PATCH_INVALID',
      /is \[4\], not \[2, 2\]/,
    ],
    ['too few values', { ...tensors, 'values.user': f32([1, 4]) }, FOR, 'PATCH_INVALID', /is \[1,4\]/],
    ['another width', { ...tensors, 'values.user': f32([2, 3]) }, FOR, 'TENSOR_SHAPE', /6 values for 2 rows/],
    ['rows of floats', { ...tensors, 'rows.user': f32([2], [1, 2]) }, FOR, 'TENSOR_DTYPE', /row numbers/],
    ['values of integers', { ...tensors, 'values.user': i32([2, 2]) }, FOR, 'TENSOR_DTYPE', /values of rows/],
    [
      'halves for a table of float32',
      { ...tensors, 'values.user': { dtype: 'float16', shape: [2, 2], data: new Uint16Array(4) } },
      FOR,
      'TENSOR_DTYPE',
      /values of rows/,
    ],
    [
      'a row past the end',
      { ...tensors, 'rows.user': i64([2], [0, 10]) },
      FOR,
      'INDEX_OUT_OF_RANGE',
      /rows\[1\] = 10/,
    ],
    [
      'a negative row',
      { ...tensors, 'rows.user': i32([2], [-1, 0]) },
      FOR,
      'INDEX_OUT_OF_RANGE',
      /rows\[0\] = -1/,
    ],
    [
      'NaN that cannot be quantised, in the last table',
      { ...tensors, 'rows.item': i32([1], [0]), 'values.item': f32([1, 4], [1, 2, Number.NaN, 4]) },
      FOR,
      'VALUE_NOT_FINITE',
      /./,
    ],
  ];
  for (const [what, given, metadata, code, message] of cases)
    test(what, () => {
      assert.throws(() => readPatch(bytesOf(given, metadata), 'the patch', MODEL), { code, message });
    });

  test('bytes that are no safetensors, cut anywhere', () => {
    const whole = bytesOf(tensors);
    for (let length = 0; length < whole.length; length++)
      assert.throws(() => readPatch(whole.slice(0, length), 'the patch', MODEL), {
        code: 'SAFETENSORS_INVALID',
      });
  });
});
