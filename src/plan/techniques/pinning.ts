import Type, { type Static } from 'typebox';
import { rowBytes } from '../../embedding/bag.ts';
import { onDevice, type Technique } from './technique.ts';

const parameters = Type.Object(
  {
    bytes: Type.Integer({ minimum: 1, description: 'budget of L2 that a table’s pinned rows may take' }),
    by: Type.Union([
      Type.Literal('prefetch', {
        description: 'the hottest rows are asked for into L2 as lines that are evicted last',
      }),
      Type.Literal('window', {
        description: "a persisting access-policy window lies over the table's hottest range of rows",
      }),
    ]),
    when: Type.Union([
      Type.Literal('before', { description: "before the table's kernel" }),
      Type.Literal('ahead', {
        description: "on a second stream, in the shadow of the previous table's kernel",
      }),
    ]),
  },
  { additionalProperties: false },
);

export type PinningParameters = Static<typeof parameters>;

/** Rows of a table that fit the budget; 0: not even one does. */
export function pinnedRows(
  { bytes }: PinningParameters,
  table: Parameters<typeof rowBytes>[0] & { rows: number },
): number {
  return Math.min(table.rows, Math.floor(bytes / rowBytes(table)));
}

/** What the artifact of the paper pins: 60,000 rows of 512 bytes. */
const ARTIFACT_BYTES = 60_000 * 512;

const HOTNESS_COUNTER_BYTES = 4;

const cuda = onDevice({
  parameters,
  candidates: ({ device, kernel }): PinningParameters[] => {
    if (kernel === 'fused') return [];
    const limit = device.gpu?.persistingL2Bytes ?? 0;
    if (limit === 0) return [];
    const bytes = Math.min(ARTIFACT_BYTES, limit);
    return [
      { bytes, by: 'prefetch', when: 'before' },
      { bytes, by: 'prefetch', when: 'ahead' },
      { bytes, by: 'window', when: 'before' },
    ];
  },
  sweep: ({ device }) => {
    const limit = device.gpu?.persistingL2Bytes ?? 0;
    const budgets = [1e6, 2e6, 4e6, 8e6, 16e6, ARTIFACT_BYTES, limit].filter(
      (bytes) => bytes > 0 && bytes <= limit,
    );
    return [
      ...budgets.map((bytes): PinningParameters => ({ bytes, by: 'prefetch', when: 'before' })),
      ...budgets.map((bytes): PinningParameters => ({ bytes, by: 'prefetch', when: 'ahead' })),
      ...budgets.map((bytes): PinningParameters => ({ bytes, by: 'window', when: 'before' })),
    ];
  },
  refuse: ({ bytes, by, when }, { device, kernel, tables }) => {
    if (kernel === 'fused')
      return "the fused kernel reads all tables at once: one's pinned rows would push out another's";
    const limit = device.gpu?.persistingL2Bytes ?? 0;
    if (limit === 0) return `${device.id} cannot set a part of its L2 aside`;
    if (bytes > limit) return `${bytes} bytes, but ${device.id} sets aside at most ${limit} bytes of its L2`;
    if (by === 'window' && when === 'ahead')
      return 'a window brings no rows, so there is nothing to do ahead';
    const wide = tables.find((table) => rowBytes(table) > bytes);
    return wide === undefined ? undefined : `${bytes} bytes hold no row of ${rowBytes(wide)} bytes`;
  },
  label: ({ bytes, by, when }) =>
    `L2P ${(bytes / 1e6).toFixed(1)} MB${by === 'window' ? ' window' : ''}${when === 'ahead' ? ' ahead' : ''}`,
  cost: (_, { tables }) => ({
    memoryBytes: tables.reduce((sum, { rows }) => sum + rows * HOTNESS_COUNTER_BYTES, 0),
    note: 'the time to bring the rows in, about 10 µs a table on an H200 for 30 MB, and L2 that other rows lose',
  }),
  changesPlacement: false,
});

/** The paper's L2P: the hottest rows stay in L2. Which they are is counted: in a trace, or in live lookups. */
export const pinning = {
  name: 'pinning',
  title: 'L2 pinning',
  summary: 'keeps the hottest rows of the table that is looked up next in L2, so that its misses are shorter',
  devices: { cuda },
} satisfies Technique;
