/** What a table lost by its new row format, and whether that is more than the format usually loses. */
import { type Check, membersOf, oneOf, refuseOption, someOf, text } from '../../checks/value.ts';
import { type QuantizationError, relativeRmsError } from '../../embedding/quantize.ts';
import { ROW_FORMATS, type RowFormat } from '../../embedding/row-format.ts';
import { percent } from '../../numbers.ts';
import type { QuantizedTable } from './quantize-checkpoint.ts';

/**
 * The relative RMS error from which on a table is worth a warning, as a share. Rows of uniform or normal values lose 0.4 to
 * 0.7 % as int8, 6 to 11 % as int4, 2.6 % as float8, below 0.2 % as float16 and bfloat16.
 */
export const USUAL_LOSS: Readonly<Record<RowFormat, number>> = {
  float32: 0,
  float16: 0.01,
  bfloat16: 0.01,
  int8: 0.02,
  int4: 0.15,
  float8_e4m3: 0.04,
};

/** A number from 0 on; sums may be infinite. */
const quantity: Check<number> = (value, at) =>
  typeof value === 'number' && value >= 0 ? value : refuseOption(at, value, 'a number from 0 on');

const TABLE = someOf<Pick<QuantizedTable, 'name' | 'to' | 'error'>>({
  name: text,
  to: oneOf(ROW_FORMATS),
  error: membersOf<QuantizationError>({
    elements: quantity,
    maxAbsolute: quantity,
    sumSquaredError: quantity,
    sumSquares: quantity,
    saturated: quantity,
  }),
});

/**
 * What the user should know of a table's error; nothing where it is `warnAbove` at most, and no element saturated.
 * @throws UsageError OPTION_INVALID.
 */
export function lossWarnings(table: QuantizedTable, most?: number): string[] {
  const { name, to, error } = TABLE(table, 'lossWarnings: table');
  const warnAbove = most === undefined ? USUAL_LOSS[to] : quantity(most, 'lossWarnings: warnAbove');
  const loss = relativeRmsError(error);
  const halves = to === 'float16' || to === 'bfloat16';
  const remedy = `keep it as it is (--tables lists those to convert)${halves ? '' : ', or convert it to float16 rows'}`;
  const warnings: string[] = [];
  if (loss > warnAbove) {
    const largest = error.maxAbsolute.toExponential(1);
    warnings.push(
      `table ${name} loses ${percent(loss, 1)} as ${to}: relative RMS error, warned of above ${percent(warnAbove, 1)}; largest error ${largest}; ${remedy}`,
    );
  }
  if (error.saturated > 0) {
    const became = halves ? 'infinite' : 'the nearest that it does';
    warnings.push(
      `table ${name} has ${error.saturated} elements beyond what ${to} holds, which became ${became}; ${remedy}`,
    );
  }
  return warnings;
}
