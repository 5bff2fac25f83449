import Type from 'typebox';
import { rowContentBytes } from '../../embedding/row-format.ts';
import { onDevice, type PlanContext, type Technique } from './technique.ts';

/** Of a row that a lane of the fused kernel holds at least, where rows are no wider than a warp's lanes. */
const LANE_BYTES = 16;

/** Lanes that the narrowest rows have. */
function fewestLanes({ tables }: PlanContext): number {
  return Math.min(...tables.map((table) => Math.ceil(rowContentBytes(table) / LANE_BYTES)));
}

const TURNS = [16, 8, 32] as const;

const cuda = onDevice({
  parameters: Type.Object(
    { lookups: Type.Union([Type.Literal(8), Type.Literal(16), Type.Literal(32)]) },
    { additionalProperties: false },
  ),
  candidates: (context): { lookups: 8 | 16 | 32 }[] =>
    context.kernel === 'fused' && context.tables.length > 0
      ? TURNS.filter((lookups) => lookups > fewestLanes(context)).map((lookups) => ({ lookups }))
      : [],
  guess: () => undefined,
  refuse: (_, { kernel }) =>
    kernel === 'fused' ? undefined : `a thread of the ${kernel} kernel reads an index by itself`,
  label: ({ lookups }) => `turns of ${lookups}`,
  cost: ({ lookups }) => ({
    note: `the indices of ${lookups} lookups in registers, and as many rows in flight where the prefetch asks for them; pays for short bags of rows so narrow that few lanes share one`,
  }),
  settings: ({ lookups }) => ({ turn: lookups }),
  changesPlacement: false,
  perGroup: ['fused'],
});

/**
 * How many lookups of a bag a group of lanes takes on at once. A narrow row has few lanes, each of which reads one index: a bag of 10
 * lookups of rows of 64 bytes is three turns, one waiting for the other. With more indices a lane it is one. The order of
 * additions stays.
 */
export const turns = {
  name: 'turns',
  title: 'Lookups of a turn',
  summary:
    'has each of the few lanes of a narrow row read several indices at once, so that a short bag is one turn',
  devices: { cuda },
} satisfies Technique;
