/** Which formats operations take: what does not fit is refused before any work. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Matrix, matrix, type Operation, type PlacedLinear } from '../../src/backend/backend.ts';
import { checkFormats } from '../../src/backend/formats.ts';
import type { DeviceDescription } from '../../src/device.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';

const device = { capabilities: { precisions: ['tf32', 'float16'] } } as unknown as DeviceDescription;
using backend = new ReferenceBackend();
using buffer = backend.allocate(64);
const place = matrix(buffer, 2, 4);
const half: Matrix = { ...place, format: 'float16' };
const other: Matrix = { ...place, format: 'bfloat16' };
const layer = { device, precision: 'float16' } as PlacedLinear;
const linear = { op: 'linear', layer, activation: 'none' } as const;
const dot = { op: 'dotInteraction', features: 2, dim: 2, diagonal: false, order: 'lower' } as const;
const rows = { op: 'rowFunction', function: 'factorizationMachine' } as const;

test('operations take float32 or the format of their precision', () => {
  const good: Operation[] = [
    { ...linear, input: place, output: half },
    { ...linear, input: half, output: place },
    { ...linear, input: half, output: half, cross: { x0: half, x: half } },
    { ...linear, layer: { device, precision: 'tf32' } as PlacedLinear, input: place, output: place },
    { ...dot, precision: 'float16', input: half, output: half },
    { ...dot, precision: 'tf32', input: place, output: place },
    { ...rows, input: half, output: half },
    { op: 'copy', input: place, output: half },
    { op: 'copy', input: half, output: half },
    { op: 'copy', input: half, output: place },
    { op: 'transfer', input: other, output: other },
    { op: 'download', input: other, target: new Uint16Array(8) },
    { op: 'upload', source: new Float32Array(8), output: place },
  ];
  assert.doesNotThrow(() => checkFormats(good, device));
});

test('other formats are refused, naming the matrix', () => {
  const bad: readonly (readonly [Operation, RegExp])[] = [
    [{ ...linear, input: other, output: half }, /input\.format is "bfloat16", expected float32 or float16/],
    [{ ...linear, input: half, output: other }, /output\.format/],
    [{ ...linear, input: half, output: half, cross: { x0: place, x: half } }, /cross\.x0\.format/],
    [{ ...linear, input: half, output: half, cross: { x0: half, x: place } }, /cross\.x\.format/],
    [{ ...dot, precision: 'float16', input: place, output: half }, /input\.format.*expected float16/],
    [{ ...dot, precision: 'float16', input: half, output: place }, /output\.format/],
    [{ ...rows, input: half, output: place }, /output\.format.*expected float16/],
    [{ ...rows, input: other, output: other }, /input\.format/],
    [{ op: 'copy', input: half, output: other }, /output\.format.*expected float32 or float16/],
    [{ op: 'copy', input: other, output: place }, /input\.format/],
    [{ op: 'transfer', input: half, output: place }, /output\.format/],
    [{ op: 'upload', source: new Float32Array(8), output: half }, /output\.format.*expected float32$/],
  ];
  for (const [operation, message] of bad) {
    const program = [{ op: 'copy', input: place, output: place } as const, operation];
    const refusal = { code: 'OPTION_INVALID', message };
    assert.throws(() => checkFormats(program, device), refusal);
    assert.throws(() => checkFormats(program, device), /program\[1\]/);
  }
});

test('one of the formats of a copy is float32, or both are the same', () => {
  const both = { capabilities: { precisions: ['float16', 'bfloat16'] } } as unknown as DeviceDescription;
  const copy = (input: Matrix, output: Matrix) => () => checkFormats([{ op: 'copy', input, output }], both);
  for (const format of [place, half, other]) {
    assert.doesNotThrow(copy(format, format));
    assert.doesNotThrow(copy(format, place));
    assert.doesNotThrow(copy(place, format));
  }
  assert.throws(copy(half, other), { code: 'OPTION_INVALID', message: /expected float32 or float16/ });
  assert.throws(copy(other, half), { code: 'OPTION_INVALID', message: /expected float32 or bfloat16/ });
});
