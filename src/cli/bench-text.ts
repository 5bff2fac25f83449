/** Benchmark results as the terminal shows them, and as the docs quote them. */
import { benchTables, type RenderedTable } from '../bench/render.ts';
import type { BenchResults } from '../bench/results.ts';
import { type RowFormat, rowBytes } from '../embedding/row-format.ts';
import { emphasise, formatBytes, renderTable } from './output.ts';

/** `reason`: why this device was chosen. */
export function benchText(results: BenchResults, reason?: string): string {
  const { device, collection, workload, ceilings, notes } = results;
  const giga = (perSecond: number) => (perSecond / 1e9).toFixed(0);
  const { cacheReadGigabytesPerSecond: cache } = ceilings;
  const cached = cache === undefined ? '' : `${cache.toFixed(0)} GB/s from L2, `;
  const head = [
    `device    ${device.id}: ${device.name}, ${device.architecture}, ${device.threads} threads`,
    ...(reason === undefined ? [] : [`          (${reason})`]),
    `tables    ${describeCollection(collection)}`,
    `lookups   bags of ${workload.bagLengths}, ${workload.indexType}, index checking ${workload.indexChecking}`,
    `ceilings  ${ceilings.readGigabytesPerSecond.toFixed(1)} GB/s streaming reads, ${cached}${giga(ceilings.multiplyAddsPerSecond)} G multiply-adds/s`,
  ];
  const tables = benchTables(results).flatMap((table) => ['', tableText(table)]);
  const remarks = notes.map((note) => `note: ${note}`);
  return [...head, ...tables, ...(remarks.length > 0 ? ['', ...remarks] : [])].join('\n');
}

/** A table under its title. */
export function tableText({ title, columns, rows }: RenderedTable): string {
  return `${emphasise(title)}\n${renderTable(columns, rows)}`;
}

function describeCollection(collection: BenchResults['collection']): string {
  const bytes = collection.reduce(
    (sum, { rows, dim, rowFormat }) => sum + rows * rowBytes({ dim, rowFormat: rowFormat as RowFormat }),
    0,
  );
  const shapes = new Set(
    collection.map(({ rows, dim, rowFormat }) => `${rows.toLocaleString('en-US')} × ${dim} ${rowFormat}`),
  );
  const shape =
    shapes.size === 1
      ? `${collection.length} × ${[...shapes][0]}`
      : `${collection.length} of ${shapes.size} shapes`;
  return `${shape}, ${formatBytes(bytes)}`;
}
