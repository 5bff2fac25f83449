/** Users' pooled rows copied to their candidates, on the host. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ColumnSpan, SpreadRowsParams } from '../../src/backend/cuda/embedding/spread-rows-params.ts';
import { utilitySource } from '../../src/backend/cuda/kernels/utilities.ts';
import { addressOf, emulate, refuseEmulation } from './emulator.ts';

const skip = refuseEmulation();

test('rows of users are copied to their candidates, the spans of columns and nothing else', {
  skip,
}, async () => {
  const emulator = await emulate([utilitySource('spread_rows')]);
  const spans = [
    { from: 0, to: 4, columns: 8 },
    { from: 8, to: 13, columns: 3 },
  ];
  const users = Int32Array.of(0, 0, 1, 3, 3, 3);
  for (const [make, elementBytes] of [
    [Uint32Array, 4],
    [Uint16Array, 2],
    [Uint8Array, 1],
  ] as const) {
    for (const [inputStride, outputStride, first] of [
      [12, 20, 0],
      [11, 17, 1],
      [16, 24, 2],
    ] as const) {
      const input = new make(4 * inputStride).map((_, i) => i + 1);
      const output = new make(users.length * outputStride);
      const described = ColumnSpan.encodeAll(spans);
      for (const grid of [
        [1, 1],
        [3, 2],
        [2, 5],
      ] as const) {
        output.fill(0);
        emulator.launch('hotrow_spread_rows', {
          grid,
          block: [32, 2],
          params: SpreadRowsParams.encode({
            input: addressOf(input),
            inputStride,
            output: addressOf(output) + BigInt(first * elementBytes),
            outputStride,
            elementBytes,
            users: addressOf(users),
            rows: users.length,
            spans: addressOf(described),
            spanCount: spans.length,
          }),
          reads: [input, users, described],
          writes: [output],
        });
        const expected = new make(output.length);
        users.forEach((user, row) => {
          for (const { from, to, columns } of spans) {
            const own = input.subarray(user * inputStride + from).subarray(0, columns);
            expected.set(own, row * outputStride + first + to);
          }
        });
        assert.deepEqual(output, expected, `${elementBytes} bytes, strides ${inputStride}, ${outputStride}`);
      }
    }
  }
});
