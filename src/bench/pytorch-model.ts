/** PyTorch's whole model as a peer in the same run on a GPU: eager, and as a CUDA graph, in float32 and TF32. */
import type { Backend } from '../backend/backend.ts';
import type { DeviceKind } from '../device.ts';
import { isQuantized } from '../embedding/row-format.ts';
import { AbortError } from '../errors.ts';
import type { DlrmArchitecture, ModelArchitecture } from '../model/architecture.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import type { MeasuredModelRow } from './measure-model.ts';
import { peerBags } from './peer-bags.ts';
import { refuseCollection } from './peers.ts';
import { PytorchProcess } from './pytorch-process.ts';
import { timing } from './statistics.ts';
import type { ModelWorkload } from './workload.ts';

interface Variant {
  readonly name: string;
  readonly variant: 'eager' | 'graph';
  readonly tf32: boolean;
}

const VARIANTS: readonly Variant[] = [
  { name: 'eager', variant: 'eager', tf32: false },
  { name: 'CUDA graph', variant: 'graph', tf32: false },
  { name: 'CUDA graph, TF32', variant: 'graph', tf32: true },
];

/** Not on CPUs, where what it computes with depends on how PyTorch was built, by a factor of a hundred. */
const DEVICES: readonly DeviceKind[] = ['cuda'];

export interface PytorchModelOptions {
  readonly backend: Backend;
  readonly architecture: ModelArchitecture;
  readonly workloads: readonly ModelWorkload[];
  readonly rounds: number;
  /** Ends PyTorch. */
  readonly signal: AbortSignal | undefined;
}

/** Times the same model in PyTorch, inputs on the device; why not goes into `notes`. Nothing on other devices. @throws AbortError. */
export async function measurePytorchModel(
  options: PytorchModelOptions,
  notes: string[],
): Promise<MeasuredModelRow[]> {
  const { backend, architecture, workloads, signal } = options;
  if (!DEVICES.includes(backend.device.kind)) return [];
  const reason = refuse(architecture);
  if (reason !== undefined) {
    notes.push(`PyTorch's model was not measured: ${reason}`);
    return [];
  }
  const started = await PytorchProcess.start('pytorch_dlrm.py', backend.device.kind, { signal });
  if (typeof started === 'string') {
    notes.push(started);
    return [];
  }
  await using process = started;
  const rows: MeasuredModelRow[] = [];
  try {
    await setUp(process, architecture as DlrmArchitecture);
    for (const workload of workloads) rows.push(...(await measure(process, workload, options)));
  } catch (error) {
    if (error instanceof AbortError) throw error;
    notes.push(`PyTorch's model: ${(error as Error).message}`);
  }
  return rows;
}

/** What the peer cannot be; undefined: it is the same model. */
function refuse(architecture: ModelArchitecture): string | undefined {
  if ('blocks' in architecture) return 'its model is a DLRM';
  const { tables, interaction } = architecture;
  if (interaction.kind !== 'dot' || interaction.diagonal) return 'its interaction is dot without a diagonal';
  const reason = refuseCollection(tables);
  if (reason !== undefined) return reason;
  return tables.some(({ rowFormat }) => isQuantized(rowFormat))
    ? 'its embedding_bag has no quantised rows'
    : undefined;
}

async function setUp(process: PytorchProcess, { tables, bottom, top }: DlrmArchitecture): Promise<void> {
  const layers = (mlp: typeof bottom) => mlp.map(({ outputs, inputs }) => [outputs, inputs]);
  await process.ask({
    setup: {
      tables: tables.map(({ rows, dim, rowFormat }) => [rows, dim, rowFormat]),
      mode: tables[0]?.mode ?? 'sum',
      bottom: layers(bottom),
      top: layers(top),
      threads: 1,
      device: process.device,
    },
  });
}

async function measure(
  process: PytorchProcess,
  { pattern, requests, distinctShare }: ModelWorkload,
  { backend, architecture, rounds }: PytorchModelOptions,
): Promise<MeasuredModelRow[]> {
  const [first] = requests as [DlrmRequest];
  const { batchSize } = first;
  await process.withLookups(requests.map(peerBags), (batches) =>
    process.ask({ load: { batches, batchSize } }),
  );
  const rows: MeasuredModelRow[] = [];
  for (const { name, variant, tf32 } of VARIANTS) {
    const { latencies, batchSeconds } = (await process.ask({ run: { variant, tf32, rounds } })) as {
      readonly latencies: readonly number[];
      readonly batchSeconds: number;
    };
    const batchMs = batchSeconds * 1e3;
    rows.push({
      stage: 'model',
      implementation: `PyTorch ${process.version}`,
      device: backend.device.id,
      pattern,
      variant: name,
      precision: tf32 ? 'tf32' : 'float32',
      inputs: 'device',
      batchSize,
      tables: architecture.tables.length,
      lookups: first.bags.reduce((sum, { indices }) => sum + indices.length, 0),
      distinctShare,
      cacheState: 'warm, requests in rotation; inputs in device memory',
      timing: timing(latencies.map((seconds) => seconds * 1e3)),
      batchMs,
      samplesPerSecond: (batchSize / batchMs) * 1e3,
    });
  }
  return rows;
}
