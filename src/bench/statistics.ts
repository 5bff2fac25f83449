/** Medians with spread, the only form in which times are reported. */
import Type, { type Static } from 'typebox';
import { quantile } from '../tuner/quantile.ts';

export const timingSchema = Type.Object(
  {
    medianMs: Type.Number({ minimum: 0 }),
    p10Ms: Type.Number({ minimum: 0 }),
    p90Ms: Type.Number({ minimum: 0 }),
    p99Ms: Type.Optional(Type.Number({ minimum: 0, description: 'given from 100 rounds on' })),
    minMs: Type.Number({ minimum: 0 }),
    maxMs: Type.Number({ minimum: 0 }),
    rounds: Type.Integer({ minimum: 1 }),
  },
  { additionalProperties: false },
);
export type Timing = Static<typeof timingSchema>;

/** Fewer samples than this say nothing about the slowest hundredth. */
const P99_ROUNDS = 100;

/** Median and spread of `samplesMs`, one per round. */
export function timing(samplesMs: readonly number[]): Timing {
  const sorted = samplesMs.toSorted((a, b) => a - b);
  return {
    medianMs: quantile(sorted, 0.5),
    p10Ms: quantile(sorted, 0.1),
    p90Ms: quantile(sorted, 0.9),
    ...(sorted.length >= P99_ROUNDS ? { p99Ms: quantile(sorted, 0.99) } : {}),
    minMs: quantile(sorted, 0),
    maxMs: quantile(sorted, 1),
    rounds: sorted.length,
  };
}
