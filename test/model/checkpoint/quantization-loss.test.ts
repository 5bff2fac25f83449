/** Which tables are warned of. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quantizeRows } from '../../../src/embedding/quantize.ts';
import { QUANTIZED_ROW_FORMATS, type QuantizedRowFormat } from '../../../src/embedding/row-format.ts';
import { lossWarnings } from '../../../src/model/checkpoint/quantization-loss.ts';
import { Random } from '../../support/random.ts';

const ROWS = 200;
const DIM = 64;

function converted(values: Float32Array, to: QuantizedRowFormat) {
  const bytes = { bytesBefore: 0, bytesAfter: 0 };
  const { error } = quantizeRows(values, DIM, to);
  return { name: 'emb_l.3', rows: ROWS, dim: DIM, from: 'float32', to, ...bytes, error } as const;
}

const uniform = (size: number) => new Random(3).reals(ROWS * DIM).map((x) => size * x);
/** About normal: sums of twelve uniform numbers. */
function normal(): Float32Array {
  const random = new Random(4);
  return Float32Array.from({ length: ROWS * DIM }, () => random.reals(12).reduce((sum, x) => sum + x, 0) / 2);
}

for (const format of QUANTIZED_ROW_FORMATS) {
  test(`${format}: uniform and normal rows are not warned of`, () => {
    for (const values of [uniform(1), normal()])
      assert.deepEqual(lossWarnings(converted(values, format)), []);
  });
}

test('a table below what the format tells apart is warned of, with its error and what to do', () => {
  // float8's smallest number is 2e-3.
  const warnings = lossWarnings(converted(uniform(1e-4), 'float8_e4m3'));
  assert.equal(warnings.length, 1);
  assert.match(
    warnings[0] as string,
    /^table emb_l\.3 loses 100\.0 % as float8_e4m3: .* above 4\.0 %; .*--tables/,
  );
});

test('a threshold of the caller holds instead', () => {
  const table = converted(uniform(1), 'int8');
  assert.match(lossWarnings(table, 0.001)[0] as string, /loses 0\.4 % as int8: .* above 0\.1 %/);
  assert.deepEqual(lossWarnings(converted(uniform(1e-4), 'float8_e4m3'), 1), []);
});

test('saturated elements are warned of, whatever the threshold', () => {
  const values = uniform(1);
  values[7] = 1000;
  const [warning] = lossWarnings(converted(values, 'float8_e4m3'), 10);
  assert.match(
    warning as string,
    /^table emb_l\.3 has 1 elements beyond what float8_e4m3 holds, which became the nearest .* float16 rows/,
  );
  const error = { elements: 2, maxAbsolute: 0, sumSquaredError: 0, sumSquares: 1, saturated: 2 };
  const table = { ...converted(uniform(1), 'int8'), to: 'float16', error } as const;
  assert.match(
    lossWarnings(table)[0] as string,
    /2 elements beyond what float16 holds, which became infinite; .*--tables/,
  );
  assert.doesNotMatch(lossWarnings(table)[0] as string, /convert it to float16/);
});
