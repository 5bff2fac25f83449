/** A GPU that is the plain reference: every plan of a GPU is legal and computes the same; times are made up. */
import type {
  BoundOperation,
  EmbeddingBagsOperation,
  PlacedBags,
  RunReport,
} from '../../src/backend/backend.ts';
import { stageSeconds } from '../../src/backend/slots.ts';
import type { DeviceDescription } from '../../src/device.ts';
import { GPU_CAPABILITIES } from './devices.ts';
import { ReferenceBackend } from './reference-backend.ts';

export class ReferenceGpu extends ReferenceBackend {
  override readonly device: DeviceDescription = {
    kind: 'cuda',
    id: 'cuda:0',
    name: 'plain TypeScript',
    architecture: 'sm_90',
    threads: 2048,
    memoryBytes: 2 ** 36,
    versions: {},
    gpu: { multiprocessors: 1, l2Bytes: 2 ** 20, persistingL2Bytes: 2 ** 19 },
    capabilities: GPU_CAPABILITIES,
  };
  readonly #stageMs: (operation: EmbeddingBagsOperation<PlacedBags>) => number;

  /** `stageMs`: of a batch's embedding stage. Everything else takes 1 ms, each launch too. */
  constructor(stageMs: (operation: EmbeddingBagsOperation<PlacedBags>) => number = () => 1) {
    super();
    this.#stageMs = stageMs;
  }

  protected override async runBound(operations: readonly BoundOperation[]): Promise<RunReport> {
    const report = await super.runBound(operations);
    const seconds = Float64Array.from(operations, (operation) =>
      operation.op === 'embeddingBags' ? this.#stageMs(operation) / 1e3 : 1e-3,
    );
    const launches = operations.flatMap((operation, i) =>
      operation.op === 'embeddingBags'
        ? operation.tables.tables.map(() => ({ operation: i, kind: 'bags' as const, seconds: 1e-3 }))
        : [],
    );
    return { ...report, seconds, stages: stageSeconds(operations, seconds), launches };
  }
}
