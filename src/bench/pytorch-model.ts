/** PyTorch's whole model as a peer in the same run on a GPU: eager, as a CUDA graph, and through torch.compile. */
import type { Backend } from '../backend/backend.ts';
import type { DensePrecision, DeviceKind } from '../device.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
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

/** As `run` of pytorch_dlrm.py takes it. */
interface Variant {
  readonly variant: 'eager' | 'graph' | 'compile';
  readonly precision: DensePrecision;
  /** All tables in one call. */
  readonly oneTable: boolean;
}

/** What stands beside a precision: float32 and TF32 beside these two, else PyTorch's fastest forms in 16 bits. */
export function variantsBeside(
  precision: DensePrecision,
  tables: readonly Pick<EmbeddingTable, 'dim' | 'rowFormat'>[],
): readonly Variant[] {
  if (precision === 'float32' || precision === 'tf32')
    return [
      { variant: 'eager', precision: 'float32', oneTable: false },
      { variant: 'graph', precision: 'float32', oneTable: false },
      { variant: 'graph', precision: 'tf32', oneTable: false },
    ];
  const half = precision === 'bfloat16' ? 'bfloat16' : 'float16';
  const [first] = tables;
  const oneTable = tables.every(({ dim, rowFormat }) => dim === first?.dim && rowFormat === first.rowFormat);
  return [
    { variant: 'graph', precision: half, oneTable: false },
    ...(oneTable ? ([{ variant: 'graph', precision: half, oneTable }] as const) : []),
    { variant: 'compile', precision: half, oneTable },
  ];
}

const FORMS = { eager: 'eager', graph: 'CUDA graph', compile: 'torch.compile, CUDA graph' } as const;

/** What results call it. */
function nameOf({ variant, precision, oneTable }: Variant): string {
  const words: string[] = [FORMS[variant]];
  if (precision !== 'float32') words.push(precision === 'tf32' ? 'TF32' : precision);
  if (oneTable) words.push('one table');
  return words.join(', ');
}

/** Not on CPUs, where what it computes with depends on how PyTorch was built, by a factor of a hundred. */
const DEVICES: readonly DeviceKind[] = ['cuda'];

export interface PytorchModelOptions {
  readonly backend: Backend;
  readonly architecture: ModelArchitecture;
  /** Of the rows that it stands beside. */
  readonly precision: DensePrecision;
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
    let variants = variantsBeside(options.precision, architecture.tables);
    for (const workload of workloads) {
      await load(process, workload);
      for (const variant of variants) {
        const row = await measure(process, variant, workload, options);
        if (typeof row !== 'string') rows.push(row);
        else {
          notes.push(`PyTorch's model, ${nameOf(variant)}, failed on ${workload.pattern}: ${row}`);
          variants = variants.filter((other) => other !== variant);
        }
      }
    }
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
  if (!knowsInteraction(interaction))
    return 'its interaction is dot without a diagonal, or low-rank cross layers';
  const reason = refuseCollection(tables);
  if (reason !== undefined) return reason;
  return tables.some(({ rowFormat }) => isQuantized(rowFormat))
    ? 'its embedding_bag has no quantised rows'
    : undefined;
}

function knowsInteraction(interaction: DlrmArchitecture['interaction']): boolean {
  if (interaction.kind === 'dot') return !interaction.diagonal;
  return interaction.kind === 'cross' && interaction.layers.every(({ v }) => v !== undefined);
}

async function setUp(
  process: PytorchProcess,
  { tables, bottom, interaction, top }: DlrmArchitecture,
): Promise<void> {
  const layers = (mlp: typeof bottom) => mlp.map(({ outputs, inputs }) => [outputs, inputs]);
  await process.ask({
    setup: {
      tables: tables.map(({ rows, dim, rowFormat }) => [rows, dim, rowFormat]),
      mode: tables[0]?.mode ?? 'sum',
      bottom: layers(bottom),
      cross: interaction.kind === 'cross' ? interaction.layers.map(({ width, rank }) => [width, rank]) : [],
      top: layers(top),
      threads: 1,
      device: process.device,
    },
  });
}

async function load(process: PytorchProcess, { requests }: ModelWorkload): Promise<void> {
  const [{ batchSize }] = requests as [DlrmRequest];
  await process.withLookups(requests.map(peerBags), (batches) =>
    process.ask({ load: { batches, batchSize } }),
  );
}

/** A row of the lookups that it was given last; or why there is none. @throws AbortError; Error when the process ended. */
async function measure(
  process: PytorchProcess,
  variant: Variant,
  { pattern, requests, distinctShare }: ModelWorkload,
  { backend, architecture, rounds }: PytorchModelOptions,
): Promise<MeasuredModelRow | string> {
  const [{ batchSize, bags }] = requests as [DlrmRequest];
  const answer = await process.tryToAsk({ run: { ...variant, rounds } });
  if (typeof answer === 'string') return answer;
  const { latencies, batchSeconds } = answer as {
    readonly latencies: readonly number[];
    readonly batchSeconds: number;
  };
  const batchMs = batchSeconds * 1e3;
  return {
    stage: 'model',
    implementation: `PyTorch ${process.version}`,
    device: backend.device.id,
    pattern,
    variant: nameOf(variant),
    precision: variant.precision,
    inputs: 'device',
    batchSize,
    tables: architecture.tables.length,
    lookups: bags.reduce((sum, { indices }) => sum + indices.length, 0),
    distinctShare,
    cacheState: 'warm, requests in rotation; inputs in device memory',
    timing: timing(latencies.map((seconds) => seconds * 1e3)),
    batchMs,
    samplesPerSecond: (batchSize / batchMs) * 1e3,
  };
}
