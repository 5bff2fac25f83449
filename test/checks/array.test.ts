/** Typed arrays as the engine knows them, whatever was done to the object. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  arrayName,
  bufferOf,
  bytesOf,
  isArrayOf,
  isIntegerArray,
  lengthOf,
  plainArray,
  unreadable,
} from '../../src/checks/array.ts';

/** An array that says of itself what is not so. */
const lying = <A extends object>(array: A, own: PropertyDescriptorMap): A =>
  Object.defineProperties(array, own);

test('a class is what the engine says, and not what it pretends to be', () => {
  assert.ok(isArrayOf(new Int32Array(1), 'Int32Array'));
  assert.ok(isArrayOf(new (class extends Int32Array {})(1), 'Int32Array'));
  const pretenders = [
    Object.create(Int32Array.prototype),
    Object.setPrototypeOf(new Float32Array(1), Int32Array.prototype),
    Object.setPrototypeOf(new Int32Array(1), Float32Array.prototype),
    new Proxy(new Int32Array(1), {}),
    { length: 1, 0: 1 },
    [1],
    null,
  ];
  for (const value of pretenders) {
    assert.equal(isArrayOf(value, 'Int32Array'), false);
    assert.equal(isIntegerArray(value), false);
  }
  assert.ok(isIntegerArray(new BigInt64Array(1)) && isIntegerArray(new Int32Array(0)));
  assert.equal(isIntegerArray(new Uint32Array(1)), false);
  assert.equal(arrayName(new Uint8Array(0)), 'Uint8Array');
  assert.equal(arrayName(new DataView(new ArrayBuffer(1))), undefined);
});

test('length, bytes and buffer are those of the array, whatever its own properties say', () => {
  const other = new ArrayBuffer(1);
  for (const own of [
    { length: { value: 7 } },
    { buffer: { value: other } },
    { byteOffset: { value: 4 } },
    { byteLength: { value: 1 } },
  ]) {
    const array = lying(new Float32Array([1, 2, 3]), own);
    assert.deepEqual([lengthOf(array), bytesOf(array)], [3, 12]);
    assert.notEqual(bufferOf(array), other);
    const plain = plainArray(array);
    assert.notEqual(plain, array, Object.keys(own)[0]);
    assert.equal(plain.length, 3);
    assert.equal(plain.byteLength, 12);
    assert.equal(plain.buffer, bufferOf(array));
    assert.deepEqual([...plain], [1, 2, 3]);
  }
  const good = new Float32Array(2);
  assert.equal(plainArray(good), good);
  class Own extends Float32Array {}
  assert.equal(Object.getPrototypeOf(plainArray(new Own(2))), Float32Array.prototype);
});

test('memory that can be resized or was transferred cannot be read', () => {
  const Resizable = ArrayBuffer as unknown as new (bytes: number, options: object) => ArrayBuffer;
  const Growable = SharedArrayBuffer as unknown as new (bytes: number, options: object) => SharedArrayBuffer;
  const most = { maxByteLength: 64 };
  for (const buffer of [new Resizable(16, most), new Growable(16, most)])
    assert.match(unreadable(new Int32Array(buffer)) ?? '', /can be resized/);
  const array = new Int32Array(4);
  const view = new DataView(new ArrayBuffer(8));
  assert.equal(unreadable(array), undefined);
  structuredClone(0, { transfer: [array.buffer, view.buffer] });
  for (const gone of [array, view]) assert.match(unreadable(gone) ?? '', /was transferred/);
  assert.equal(unreadable(new Int32Array(0)), undefined);
  assert.equal(unreadable(new Int32Array(new ArrayBuffer(8), 8)), undefined);
});
