/** The check of a batch's bags on the device, and what it found. */
import type { CudaKernel } from '../../../cuda/module.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { type BagFindings, bagFaultError, type EmbeddingTable } from '../../../embedding/bag.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { addressOf } from '../../../ffi/host-memory.ts';
import { launch, launchStriding } from '../kernels/launcher.ts';
import type { KernelLibrary } from '../kernels/library.ts';
import type { CudaBags } from './bags.ts';
import { BagsReport, CheckBagsParams, foundInBags } from './check-bags-params.ts';

/** A launch has at most so many rows of blocks. */
const MOST_GRID_ROWS = 65_535;
const DESCRIBING_THREADS = 256;

/** Counts what is wrong with the bags, and finds its first place. */
export function enqueueCheck(stream: CudaStream, check: CudaKernel, bags: CudaBags): void {
  const { total, findingsBytes, tableCount, lookups } = bags;
  bags.uploadChecked(stream);
  stream.fillBytes(total, 0, findingsBytes);
  const most = Math.ceil(lookups / Math.max(1, tableCount));
  for (let first = 0; first < tableCount; first += MOST_GRID_ROWS) {
    const count = Math.min(MOST_GRID_ROWS, tableCount - first);
    launchStriding(stream, check, CheckBagsParams.encode(bags.checkParameters(first, count)), most, count);
  }
}

/** What is wrong with bags in which something is. `checked`: by `enqueueCheck`, in this stream, since they were used. */
export async function describeBags(
  { kernels, stream }: { readonly kernels: KernelLibrary; readonly stream: CudaStream },
  tables: readonly EmbeddingTable[],
  bags: CudaBags,
  checked: boolean,
): Promise<BagFindings> {
  if (!checked) enqueueCheck(stream, await kernels.utility('check_bags'), bags);
  const parameters = bags.checkParameters();
  const describe = await kernels.utility('describe_bags');
  launch(stream, describe, CheckBagsParams.encode(parameters), [1], [DESCRIBING_THREADS]);
  const reports = new BigInt64Array(bags.tableCount * BagsReport.words);
  stream.copyToHost(addressOf(reports), parameters.reports as DevicePtr, reports.byteLength);
  await stream.finished();
  const found = tables.map((_, t) => foundInBags(reports, t));
  const fault = found.find(({ first }) => first !== undefined)?.first;
  return {
    badIndices: found.reduce((sum, { badIndices }) => sum + badIndices, 0),
    badOffsets: found.reduce((sum, { badOffsets }) => sum + badOffsets, 0),
    ...(fault === undefined ? {} : { first: bagFaultError(fault, tables[fault.table]?.name ?? '?') }),
  };
}
