/** The embedding stage by the fused kernel: one launch for all tables. */
import type { CudaKernel } from '../../cuda/module.ts';
import { DEFAULT_BLOCK_THREADS } from '../../embedding/techniques/block.ts';
import { registerCap } from '../../embedding/techniques/occupancy.ts';
import { RequestError } from '../../errors.ts';
import type { DevicePtr } from '../../ffi/cuda-symbols.ts';
import { type EmbeddingBagsOperation, type KernelUse, ownBy } from '../backend.ts';
import { CudaBags, distinctKinds } from './bags.ts';
import { CudaBuffer } from './buffer.ts';
import { enqueueCheck } from './check-bags.ts';
import { blocksPerTable } from './fused-layout.ts';
import { type FusedVariant, fusedSource } from './fused-source.ts';
import { encodeFusedBags } from './kernel-params.ts';
import { type KernelLaunch, kernelLaunch, putLaunch } from './launcher.ts';
import { CudaTables } from './placement.ts';
import type { EmbeddingStage, LaunchTimer, StageTools } from './stage.ts';

const MOST_BLOCKS = 2 ** 31 - 1;
const MOST_LOOKUPS = 2 ** 31 - 1;

const WORD_BYTES = 8;

interface BlockShape {
  readonly threads: number;
  /** Shared memory that a block takes for no other purpose than to keep others out. */
  readonly reservedBytes: number;
}

export class FusedStage implements EmbeddingStage {
  readonly operation: EmbeddingBagsOperation;
  readonly bags: CudaBags;
  readonly tables: CudaTables;
  readonly #tools: StageTools;
  readonly #kernel: CudaKernel;
  readonly #block: BlockShape;
  /**
   * In `warn` mode bags are checked first: the kernel repairs what it finds, and does not say. So are lookups without a
   * sample, which no group walks.
   */
  readonly #check: CudaKernel | undefined;
  /** Undefined: there is nothing to pool. */
  readonly #launch: KernelLaunch | undefined;

  private constructor(
    operation: EmbeddingBagsOperation,
    tools: StageTools,
    kernel: CudaKernel,
    block: BlockShape,
    check: CudaKernel | undefined,
  ) {
    this.operation = operation;
    this.bags = ownBy(CudaBags, operation.bags);
    this.tables = ownBy(CudaTables, operation.tables);
    this.#tools = tools;
    this.#kernel = kernel;
    this.#block = block;
    this.#check = check;
    this.#launch = this.#launchOf();
  }

  /** Compiles what is not compiled yet, and stages the bags. @throws RequestError for a batch that is too large. */
  static async prepare(operation: EmbeddingBagsOperation, tools: StageTools): Promise<FusedStage> {
    const bags = ownBy(CudaBags, operation.bags);
    const { tables, plan } = ownBy(CudaTables, operation.tables);
    tables.forEach(({ name }, t) => {
      const lookups = bags.of(t).bags.indices.length;
      if (lookups > MOST_LOOKUPS) {
        throw new RequestError(
          'TENSOR_SHAPE',
          `table ${t} (${name}): ${lookups} lookups; at most ${MOST_LOOKUPS}`,
        );
      }
    });
    const { kinds, segments, bagsPerGroup } = bags.fused;
    const { prefetch, occupancy, block } = plan.techniques;
    const variant: FusedVariant = {
      kinds: distinctKinds(kinds),
      checking: CHECKING[operation.checking],
      splits: segments.length > 0,
      several: bagsPerGroup > 1,
      inFlight: prefetch?.distance ?? 1,
      threads: block?.threads ?? DEFAULT_BLOCK_THREADS,
      ...(occupancy === undefined ? {} : { maxRegisters: registerCap(occupancy) }),
    };
    const kernel = await tools.kernels.get(fusedSource(variant));
    const mostWarps = occupancy !== undefined && 'warps' in occupancy ? occupancy.warps : undefined;
    const reservedBytes = mostWarps === undefined ? 0 : sharedBytesFor(kernel, variant.threads, mostWarps);
    const checksFirst =
      operation.checking === 'warn' || (operation.checking === 'error' && bags.batchSize === 0);
    const check = checksFirst ? await tools.kernels.utility('check_bags') : undefined;
    await bags.stage();
    return new FusedStage(operation, tools, kernel, { threads: variant.threads, reservedBytes }, check);
  }

  get checks(): boolean {
    const { checking } = this.operation;
    return checking === 'error' || checking === 'warn';
  }

  get reports(): boolean {
    return this.#check !== undefined;
  }

  get uses(): KernelUse[] {
    const { threads, reservedBytes } = this.#block;
    return [this.#tools.kernels.use(this.#kernel, threads, reservedBytes)];
  }

  get total(): DevicePtr {
    return this.#check === undefined ? this.#tools.total : this.bags.total;
  }

  enqueue(place: number, timer: LaunchTimer): void {
    const { stream, l2 } = this.#tools;
    const check = this.#check;
    const { bags } = this;
    l2.prepare(undefined);
    if (check !== undefined) {
      timer.time(stream, { operation: place, kind: 'check' }, () => enqueueCheck(stream, check, bags));
    } else if (this.checks) {
      stream.fillBytes(this.total, 0, WORD_BYTES);
    }
    const own = this.#launch;
    if (own !== undefined)
      timer.time(stream, { operation: place, kind: 'bags' }, () => putLaunch(stream, own));
  }

  launch(): KernelLaunch | undefined {
    return this.#check === undefined ? this.#launch : undefined;
  }

  #launchOf(): KernelLaunch | undefined {
    const { output } = this.operation;
    const { bags } = this;
    const { batchSize, tableCount, fused } = bags;
    if (batchSize === 0 || tableCount === 0) return undefined;
    const { segments, bagsPerGroup } = fused;
    const perTable = blocksPerTable(fused.shapes, bagsPerGroup, this.#block.threads);
    const blocks = segments.length + tableCount * perTable;
    if (blocks > MOST_BLOCKS)
      throw new RequestError('TENSOR_SHAPE', `a batch of ${batchSize} samples is too large`);
    const words = encodeFusedBags({
      tables: fused.tables,
      batch: batchSize,
      blocksPerTable: perTable,
      bagsPerGroup,
      output: ownBy(CudaBuffer, output.buffer).address(output.offset),
      outputStride: output.stride,
      findings: this.total,
      split: fused.split,
      segments: fused.segmentArray,
      segmentCount: segments.length,
      partials: fused.partials,
      partialWidth: fused.partialWidth,
      arrivals: fused.arrivalCounters,
    });
    const { threads, reservedBytes } = this.#block;
    return kernelLaunch(this.#kernel, words, [blocks], [threads], reservedBytes);
  }
}

const CHECKING = { error: 'stop', warn: 'repair', ignore: 'repair', none: 'none' } as const;

/**
 * Shared memory of a block that leaves room for `warps` warps on a multiprocessor at most. Fewer warps read fewer tables at
 * once, whose hot rows then stay in L2: a register cap lets more of them in, this keeps them out.
 */
export function sharedBytesFor(kernel: CudaKernel, threads: number, warps: number): number {
  const { properties } = kernel.module.device;
  const blocks = Math.max(1, Math.floor((warps * properties.warpThreads) / threads));
  if (kernel.activeBlocks(threads) <= blocks) return 0;
  const { sharedBytesPerMultiprocessor, sharedBytesPerBlockOptIn } = properties;
  // One more block would not fit.
  const share = Math.floor(sharedBytesPerMultiprocessor / (blocks + 1)) + 1;
  const bytes = Math.min(share, sharedBytesPerBlockOptIn - kernel.resources.sharedBytes);
  kernel.allowDynamicShared(bytes);
  return bytes;
}
