/** The embedding stage by the fused kernel: one launch for all tables. */
import { at } from '../../../at.ts';
import { lengthOf } from '../../../checks/array.ts';
import type { CudaKernel } from '../../../cuda/module.ts';
import type { EmbeddingTable } from '../../../embedding/bag.ts';
import { RequestError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { type EmbeddingBagsOperation, type KernelUse, ownBy } from '../../backend.ts';
import { floatBits } from '../dense/dense-library.ts';
import { type KernelLaunch, kernelLaunch, putLaunch } from '../kernels/launcher.ts';
import { startOf } from '../memory/buffer.ts';
import { CudaBags } from './bags.ts';
import { enqueueCheck } from './check-bags.ts';
import type { EmbeddingStage, LaunchTimer, StageTools } from './embedding-stage.ts';
import type { FusedKernel } from './fused-kernels.ts';
import { blocksPerTable } from './fused-layout.ts';
import { FusedBagsParams, RoundedBagsParams } from './fused-params.ts';
import { spreadLaunch, spreadTarget } from './spread-rows.ts';
import { CudaTables } from './tables.ts';

const MOST_BLOCKS = 2 ** 31 - 1;
const MOST_LOOKUPS = 2 ** 31 - 1;

export class FusedStage implements EmbeddingStage {
  readonly operation: EmbeddingBagsOperation;
  readonly bags: CudaBags;
  readonly tables: CudaTables;
  readonly #tools: StageTools;
  readonly #fused: FusedKernel;
  /**
   * In `warn` mode bags are checked first: the kernel repairs what it finds, and does not say. So are lookups without a
   * sample, which no group walks.
   */
  readonly #check: CudaKernel | undefined;
  /** The bags' and, where there are users, those that spread their rows; none: there is nothing to pool. */
  readonly #launches: readonly KernelLaunch[];

  private constructor(
    operation: EmbeddingBagsOperation,
    tools: StageTools,
    fused: FusedKernel,
    check: CudaKernel | undefined,
    spread: CudaKernel | undefined,
  ) {
    this.operation = operation;
    this.bags = ownBy(CudaBags, operation.bags);
    this.tables = ownBy(CudaTables, operation.tables);
    this.#tools = tools;
    this.#fused = fused;
    this.#check = check;
    this.#launches = this.#launchesOf(spread);
  }

  /** Compiles what is not compiled yet, and stages the bags. @throws RequestError for a batch that is too large. */
  static async prepare(operation: EmbeddingBagsOperation, tools: StageTools): Promise<FusedStage> {
    const bags = ownBy(CudaBags, operation.bags);
    const { tables } = ownBy(CudaTables, operation.tables);
    if (bags.mostLookups > MOST_LOOKUPS) throw tooManyLookups(tables, bags);
    const fused = await fusedKernel(operation, tools.rounded !== undefined);
    const checksFirst =
      operation.checking === 'warn' || (operation.checking === 'error' && bags.batchSize === 0);
    const check = checksFirst ? await tools.kernels.utility('check_bags') : undefined;
    const spread = bags.users === undefined ? undefined : await tools.kernels.utility('spread_rows');
    await bags.stage();
    return new FusedStage(operation, tools, fused, check, spread);
  }

  get checks(): boolean {
    const { checking } = this.operation;
    return checking === 'error' || checking === 'warn';
  }

  get reports(): boolean {
    return this.#check !== undefined;
  }

  get uses(): readonly KernelUse[] {
    return this.#fused.uses;
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
    }
    const [pool, ...spreads] = this.#launches;
    if (pool !== undefined) {
      const what = { operation: place, kind: 'bags', kernel: pool.kernel.name } as const;
      timer.time(stream, what, () => putLaunch(stream, pool));
    }
    for (const spread of spreads)
      timer.time(stream, { operation: place, kind: 'spread' }, () => putLaunch(stream, spread));
  }

  launches(): readonly KernelLaunch[] | undefined {
    return this.#check === undefined && this.#launches.length > 0 ? this.#launches : undefined;
  }

  #launchesOf(spread: CudaKernel | undefined): KernelLaunch[] {
    const { bags } = this;
    const { users } = bags;
    if (bags.batchSize === 0 || bags.tableCount === 0) return [];
    const pool = this.#poolLaunch();
    if (spread === undefined || users === undefined) return [pool];
    const { output } = this.operation;
    const { rounded } = this.#tools;
    const pooled = spreadLaunch(spread, bags, users, users.pooled, spreadTarget(output));
    if (rounded === undefined) return [pool, pooled];
    return [pool, pooled, spreadLaunch(spread, bags, users, users.rounded, { ...rounded, elementBytes: 1 })];
  }

  #poolLaunch(): KernelLaunch {
    const { output } = this.operation;
    const { rounded } = this.#tools;
    const { batchSize, tableCount, fused, kinds, users } = this.bags;
    const { segments, bagsPerGroup, split, partialWidth } = fused.layout;
    const userCount = users?.rows.count ?? 0;
    const tables = kinds.distinct.map(({ perUser }, kind) => ({
      count: perUser ? userCount : batchSize,
      shape: at(this.#fused.shapes, kind),
    }));
    const perTable = blocksPerTable(tables, bagsPerGroup, this.#fused.threads);
    const blocks = segments.length + tableCount * perTable;
    if (blocks > MOST_BLOCKS)
      throw new RequestError('TENSOR_SHAPE', `a batch of ${batchSize} samples is too large`);
    const params = {
      tables: fused.tables,
      batch: batchSize,
      blocksPerTable: perTable,
      bagsPerGroup,
      output: startOf(output),
      outputStride: output.stride,
      findings: this.total,
      split,
      segments: fused.segments,
      segmentCount: segments.length,
      partials: fused.partials,
      partialWidth,
      arrivals: fused.arrivals,
      users: userCount,
      userOutput: users?.pooled ?? 0,
      userOutputStride: users?.rows.width ?? 0,
    };
    const words =
      rounded === undefined
        ? FusedBagsParams.encode(params)
        : RoundedBagsParams.encode({
            ...params,
            rounded: rounded.address,
            roundedStride: rounded.stride,
            roundedInverse: floatBits(1 / Math.fround(rounded.scale)),
            userRounded: users?.rounded ?? 0,
          });
    const { kernel, threads, reservedBytes } = this.#fused;
    return kernelLaunch(kernel, words, [blocks], [threads], reservedBytes);
  }
}

function tooManyLookups(tables: readonly EmbeddingTable[], bags: CudaBags): RequestError {
  const table = tables.findIndex((_, t) => lengthOf(bags.bagsOf(t).indices) === bags.mostLookups);
  const message = `table ${table} (${tables[table]?.name}): ${bags.mostLookups} lookups; at most ${MOST_LOOKUPS}`;
  return new RequestError('TENSOR_SHAPE', message);
}

/** The kernel that an operation's plan and batch ask for. */
function fusedKernel(
  { checking, output, bags, tables }: EmbeddingBagsOperation,
  rounds: boolean,
): Promise<FusedKernel> {
  const { kinds, fused } = ownBy(CudaBags, bags);
  const { plan, fusedKernels } = ownBy(CudaTables, tables);
  const { segments, bagsPerGroup } = fused.layout;
  const paths = { splits: segments.length > 0, several: bagsPerGroup > 1 };
  return fusedKernels.get(plan, kinds, { checking, output: output.format, rounds }, paths);
}
