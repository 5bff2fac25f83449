/** What a benchmark ran on, as the terminal and reports say it. */
import { rowBytes } from '../embedding/row-format.ts';
import { formatBytes } from '../numbers.ts';
import type { BenchResults } from './results.ts';

/** Device, tables, lookups and ceilings: [name, in words]. */
export function benchFacts({ device, collection, workload, ceilings }: BenchResults): [string, string][] {
  const giga = (perSecond: number) => (perSecond / 1e9).toFixed(0);
  const { cacheReadGigabytesPerSecond: cache } = ceilings;
  const cached = cache === undefined ? '' : `${cache.toFixed(0)} GB/s from L2, `;
  return [
    ['device', `${device.id}: ${device.name}, ${device.architecture}, ${device.threads} threads`],
    ['tables', describeCollection(collection)],
    [
      'lookups',
      `bags of ${workload.bagLengths}, ${workload.indexType}, index checking ${workload.indexChecking}`,
    ],
    [
      'ceilings',
      `${ceilings.readGigabytesPerSecond.toFixed(1)} GB/s streaming reads, ${cached}${giga(ceilings.multiplyAddsPerSecond)} G multiply-adds/s`,
    ],
  ];
}

function describeCollection(collection: BenchResults['collection']): string {
  const tables = collection.filter(
    ({ table }, i) => table === undefined || collection.findIndex((other) => other.table === table) === i,
  );
  const bytes = tables.reduce(
    (sum, { rows, dim, rowFormat }) => sum + rows * rowBytes({ dim, rowFormat }),
    0,
  );
  const shapes = new Set(
    tables.map(({ rows, dim, rowFormat }) => `${rows.toLocaleString('en-US')} × ${dim} ${rowFormat}`),
  );
  const shape =
    shapes.size === 1 ? `${tables.length} × ${[...shapes][0]}` : `${tables.length} of ${shapes.size} shapes`;
  const features = tables.length < collection.length ? ` of ${collection.length} features` : '';
  return `${shape}${features}, ${formatBytes(bytes)}`;
}
