import { platform } from 'node:os';
import Type from 'typebox';
import { rowBytes } from '../../embedding/bag.ts';
import { distinctTables } from '../../embedding/shared-tables.ts';
import { onDevice, type Technique } from './technique.ts';

const cpu = onDevice({
  parameters: Type.Object({}, { additionalProperties: false }),
  candidates: () => (platform() === 'linux' ? [{}] : []),
  refuse: () => (platform() === 'linux' ? undefined : 'huge pages by madvise exist on Linux only'),
  label: () => 'huge pages',
  cost: (_, { tables }) => ({
    memoryBytes: distinctTables(tables).reduce((sum, table) => sum + table.rows * rowBytes(table), 0),
    note: 'tables are copied into anonymous memory instead of being mapped from their file',
  }),
  changesPlacement: true,
});

/** Tables in 2 MiB pages: a random row costs a cache miss, not a cache miss and a page walk. */
export const hugePages = {
  name: 'hugePages',
  title: 'Huge pages',
  summary: 'keeps tables in 2 MiB pages (madvise), so that a random row does not miss the TLB as well',
  devices: { cpu },
} satisfies Technique;
