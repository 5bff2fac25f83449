import Type from 'typebox';
import { onDevice, type Technique } from './technique.ts';

/** A row is asked for this many lookups ahead, at most. */
const MAX_DISTANCE = 64;

const cpu = onDevice({
  parameters: Type.Object(
    {
      distance: Type.Integer({ minimum: 1, maximum: MAX_DISTANCE }),
      level: Type.Union([Type.Literal('L1'), Type.Literal('L2'), Type.Literal('L3'), Type.Literal('NTA')]),
    },
    { additionalProperties: false },
  ),
  candidates: () => [
    ...[32, 16, 48, 64, 8].map((distance) => ({ distance, level: 'L1' as const })),
    { distance: 32, level: 'L2' as const },
    { distance: 32, level: 'NTA' as const },
  ],
  refuse: () => undefined,
  label: ({ distance, level }) => `prefetch d${distance} ${level}`,
  cost: ({ distance }, { tables }) => {
    const widest = Math.max(0, ...tables.map((table) => table.dim * (table.rowFormat === 'float32' ? 4 : 2)));
    return {
      note: `${((distance * widest) / 1024).toFixed(1)} KiB of cache in flight; a loss where rows are cached already`,
    };
  },
  changesPlacement: false,
});

/** Rows of later lookups are asked for while earlier ones are summed, across bag borders, never past the lookups. */
export const prefetch = {
  name: 'prefetch',
  title: 'Software prefetch',
  summary: 'asks for the rows of later lookups while earlier ones are summed, so that their misses overlap',
  devices: { cpu },
} satisfies Technique;
