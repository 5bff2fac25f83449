/** The dense references, against values worked out by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { interactionPairs, referenceDotInteraction, referenceLinear } from '../../src/dense/reference.ts';

const shape = { batch: 2, inputs: 3, outputs: 2 };
const input = new Float32Array([1, 2, 3, -1, 0, 1]);
const weight = new Float32Array([1, 1, 1, 2, 0, -2]);
// input · Wᵀ = [[6, −4], [0, −4]].

test('linear: W·x + b and the activations', () => {
  const linear = (activation: 'none' | 'relu' | 'sigmoid', bias?: Float32Array) =>
    Array.from(referenceLinear({ ...shape, input, weight, bias, activation }));
  assert.deepEqual(linear('none'), [6, -4, 0, -4]);
  assert.deepEqual(linear('none', new Float32Array([10, 20])), [16, 16, 10, 16]);
  assert.deepEqual(linear('relu'), [6, 0, 0, 0]);
  const [first, , third] = linear('sigmoid');
  assert.equal(third, 0.5);
  assert.ok(Math.abs((first as number) - 0.9975273768433653) < 1e-15);
});

test('linear: relu and sigmoid of NaN are NaN, sigmoid saturates', () => {
  const one = (x: number, activation: 'relu' | 'sigmoid') =>
    referenceLinear({
      batch: 1,
      inputs: 1,
      outputs: 1,
      input: new Float32Array([x]),
      weight: new Float32Array([1]),
      activation,
    })[0];
  assert.ok(Number.isNaN(one(Number.NaN, 'relu')));
  assert.ok(Number.isNaN(one(Number.NaN, 'sigmoid')));
  assert.equal(one(100, 'sigmoid'), 1);
  assert.ok(Math.abs((one(-100, 'sigmoid') as number) / Math.exp(-100) - 1) < 1e-12);
  assert.equal(one(Number.NEGATIVE_INFINITY, 'sigmoid'), 0);
});

test('cross: x0 ⊙ (W·v + b) + x', () => {
  const cross = { x0: new Float32Array([1, 2, 3, 4]), x: new Float32Array([100, 200, 300, 400]) };
  const bias = new Float32Array([1, -1]);
  // W·v + b = [[7, −5], [1, −5]].
  assert.deepEqual(
    Array.from(referenceLinear({ ...shape, input, weight, bias, activation: 'none', cross })),
    [107, 190, 303, 380],
  );
});

test('a layer of no samples, and one without inputs', () => {
  const none = { input: new Float32Array(), weight: new Float32Array(), activation: 'none' as const };
  assert.equal(referenceLinear({ ...none, batch: 0, inputs: 3, outputs: 2 }).length, 0);
  const bias = new Float32Array([5]);
  assert.deepEqual(Array.from(referenceLinear({ ...none, bias, batch: 2, inputs: 0, outputs: 1 })), [5, 5]);
});

test('the pairs of an interaction, in each framework’s order', () => {
  const text = (...args: Parameters<typeof interactionPairs>) => interactionPairs(...args).join(' ');
  assert.equal(text(4, false, 'lower'), '1,0 2,0 2,1 3,0 3,1 3,2');
  assert.equal(text(3, true, 'lower'), '0,0 1,0 1,1 2,0 2,1 2,2');
  assert.equal(text(4, false, 'upper'), '0,1 0,2 0,3 1,2 1,3 2,3');
  assert.equal(text(1, false, 'lower'), '');
});

test('dot interaction', () => {
  // Z = [1, 2], [3, 4], [5, −6]: 1·2 = 11, 1·3 = −7, 2·3 = −9; squares 5, 25, 61.
  const z = { batch: 1, features: 3, dim: 2, input: new Float32Array([1, 2, 3, 4, 5, -6]) };
  const dot = (diagonal: boolean, order: 'lower' | 'upper') =>
    Array.from(referenceDotInteraction({ ...z, diagonal, order }));
  assert.deepEqual(dot(false, 'lower'), [11, -7, -9]);
  assert.deepEqual(dot(true, 'lower'), [5, 11, 25, -7, -9, 61]);
  assert.deepEqual(dot(false, 'upper'), [11, -7, -9]);
});
