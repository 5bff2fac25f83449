import Type from 'typebox';
import { rowBytes, rowContentBytes } from '../../embedding/row-format.ts';
import { onDevice, type PlanContext, type Technique } from './technique.ts';

/** Bytes of a row that a lane of the fused kernel loads at once, when a plan does not say. */
const DEFAULT_LANE_BYTES = 16;

/** Rows from this many bytes on are shared by whole warps' lanes or many of them. */
const WIDE_ROW_BYTES = 128;

/**
 * Whether all rows are so wide that spreading them over more lanes leaves every lane its share. On an H200 that is faster on
 * all but the hottest lookups, together with 32 warps a multiprocessor (bench/results/h200-paper.json, h200-paper-int8.json).
 */
export function fillsWarps({ kernel, tables }: PlanContext): boolean {
  return (
    kernel === 'fused' && tables.length > 0 && tables.every((row) => rowContentBytes(row) >= WIDE_ROW_BYTES)
  );
}

const cuda = onDevice({
  parameters: Type.Object(
    { bytes: Type.Union([Type.Literal(4), Type.Literal(8)]) },
    { additionalProperties: false },
  ),
  candidates: ({ kernel, tables }): { bytes: 4 | 8 }[] => {
    const widest = Math.max(0, ...tables.map(rowBytes));
    return kernel === 'fused'
      ? ([8, 4] as const).filter((bytes) => widest > bytes).map((bytes) => ({ bytes }))
      : [];
  },
  guess: (context): { bytes: 8 } | undefined => (fillsWarps(context) ? { bytes: 8 } : undefined),
  refuse: (_, { kernel }) =>
    kernel === 'fused' ? undefined : `a lane of the ${kernel} kernel has one feature of a row, as in PyTorch`,
  label: ({ bytes }) => `${bytes} bytes a lane`,
  cost: ({ bytes }) => ({
    note: `${DEFAULT_LANE_BYTES / bytes} times the instructions for a row, and a bag's indices are read once for each part of wide rows; pays where a part of a table's rows fits into L2 and all of them do not; short bags that go several to a group keep ${DEFAULT_LANE_BYTES}`,
  }),
  settings: ({ bytes }) => ({ laneBytes: bytes }),
  changesPlacement: false,
  perGroup: ['fused'],
});

/**
 * How much of a row each lane holds: the less, the more lanes share a row, and the fewer bags, and so tables, a GPU has in
 * flight. Rows that a warp cannot hold are worked on part by part: first one part of all rows of a table, then the next. The
 * order of additions stays.
 */
export const lanes = {
  name: 'lanes',
  title: 'Lanes of a row',
  summary:
    'spreads a row over more lanes, so that L2 holds the hot rows of fewer tables, or of a part of one, at once',
  devices: { cuda },
} satisfies Technique;
