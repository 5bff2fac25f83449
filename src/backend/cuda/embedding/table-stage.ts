/** The embedding stage by a kernel that is launched table by table: the launches, with what a plan puts before and around them. */
import { at } from '../../../at.ts';
import { lengthOf } from '../../../checks/array.ts';
import type { CudaEvent } from '../../../cuda/event.ts';
import type { CudaKernel } from '../../../cuda/module.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { RequestError } from '../../../errors.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import type { PinningParameters } from '../../../plan/techniques/pinning.ts';
import { type EmbeddingBagsOperation, elementBytes, type KernelUse, ownBy } from '../../backend.ts';
import { launch, putLaunch } from '../kernels/launcher.ts';
import { startOf } from '../memory/buffer.ts';
import type { ChosenRows, ChosenWindow } from '../rows/hot-rows.ts';
import { PinRowsParams } from '../rows/pin-rows-params.ts';
import { deviceRowBytes } from '../rows/row-layout.ts';
import { CudaBags } from './bags.ts';
import { enqueueCheck } from './check-bags.ts';
import type { EmbeddingStage, LaunchTimer, StageTools } from './embedding-stage.ts';
import { spreadLaunch, spreadTarget } from './spread-rows.ts';
import { coveringGrid, DEFAULT_BLOCK, refuseLaunch } from './standard-source.ts';
import { TABLE_FAMILIES, tableKernelFamily } from './table-families.ts';
import { CudaTables } from './tables.ts';

/** Rows at once and steps of a row of a pinning block. */
const PIN_BLOCK = { rows: 64, steps: 4 } as const;
/** The bytes that one prefetch is counted on to bring: a line. */
const PIN_STEP_BYTES = 128;
const MOST_PIN_BLOCKS = 2048;

/** What is pinned of the tables of one operation. */
interface Pinned {
  readonly parameters: PinningParameters;
  readonly rows: readonly ChosenRows[];
  readonly windows: readonly ChosenWindow[];
  readonly kernel: CudaKernel;
}

export class TableStage implements EmbeddingStage {
  readonly operation: EmbeddingBagsOperation;
  readonly bags: CudaBags;
  readonly tables: CudaTables;
  /** One a table. */
  readonly #kernels: readonly CudaKernel[];
  readonly #tools: StageTools;
  readonly #check: CudaKernel;
  /** What spreads the rows of users, where there are any. */
  readonly #spread: CudaKernel | undefined;
  readonly #pinned: Pinned | undefined;

  private constructor(
    operation: EmbeddingBagsOperation,
    tools: StageTools,
    kernels: readonly CudaKernel[],
    { check, spread }: { readonly check: CudaKernel; readonly spread: CudaKernel | undefined },
    pinned: Pinned | undefined,
  ) {
    this.operation = operation;
    this.bags = ownBy(CudaBags, operation.bags);
    this.tables = ownBy(CudaTables, operation.tables);
    this.#kernels = kernels;
    this.#tools = tools;
    this.#check = check;
    this.#spread = spread;
    this.#pinned = pinned;
  }

  /** Compiles what is not compiled yet, stages the bags, and chooses the rows to pin. */
  static async prepare(operation: EmbeddingBagsOperation, tools: StageTools): Promise<TableStage> {
    const tables = ownBy(CudaTables, operation.tables);
    const bags = ownBy(CudaBags, operation.bags);
    const { format } = operation.output;
    const call = { checking: operation.checking, ...(format === undefined ? {} : { output: format }) };
    const { numbers } = bags.kinds;
    const known = tables.tableKernels.get(tables.plan, bags.kinds, call);
    for (const [t, { name, dim, rows }] of tables.tables.entries()) {
      const { bags: own, count } = bags.of(t);
      const shape = { dim, batch: count, lookups: lengthOf(own.indices), rows, block: DEFAULT_BLOCK };
      const refusal = refuseLaunch(at(known, at(numbers, t)).variant, shape);
      if (refusal !== undefined) throw new RequestError('TENSOR_SHAPE', `table ${t} (${name}): ${refusal}`);
    }
    const loaded = await Promise.all(known.map((kernel) => kernel.load()));
    const kernels = numbers.map((number) => at(loaded, number));
    const check = await tools.kernels.utility('check_bags');
    const spread = bags.users === undefined ? undefined : await tools.kernels.utility('spread_rows');
    await bags.stage();
    const { pinning } = tables.plan.techniques;
    const pinned = pinning === undefined ? undefined : await choosePinned(pinning, tables, bags, tools);
    return new TableStage(operation, tools, kernels, { check, spread }, pinned);
  }

  readonly reports = true;

  get checks(): boolean {
    const { checking } = this.operation;
    return checking === 'error' || checking === 'warn';
  }

  get uses(): KernelUse[] {
    const threads = DEFAULT_BLOCK.x * DEFAULT_BLOCK.y;
    return [...new Set(this.#kernels)].map((kernel) => this.#tools.kernels.use(kernel, threads));
  }

  get total(): DevicePtr {
    return this.bags.total;
  }

  /** Every table has a launch of its own. */
  launches(): undefined {
    return undefined;
  }

  enqueue(place: number, timer: LaunchTimer): void {
    const { stream, l2 } = this.#tools;
    l2.prepare(this.tables.plan.techniques.pinning);
    if (this.checks) timer.time(stream, { operation: place, kind: 'check' }, () => this.#enqueueCheck());
    const pinAhead = this.#pinned?.parameters.when === 'ahead' ? this.#pinned : undefined;
    let arrived = pinAhead && this.#pinAside(pinAhead, 0, place, timer);
    this.tables.tables.forEach((_, table) => {
      if (arrived !== undefined) stream.waitFor(arrived);
      if (pinAhead !== undefined) arrived = this.#pinAside(pinAhead, table + 1, place, timer);
      else if (this.#pinned !== undefined) this.#pinBefore(this.#pinned, table, place, timer);
      const kernel = at(this.#kernels, table);
      const what = { operation: place, kind: 'bags', table, kernel: kernel.name } as const;
      timer.time(stream, what, () => this.#enqueueBags(table));
    });
    if (this.#pinned?.parameters.by === 'window') stream.setAccessPolicyWindow(undefined);
    this.#spreadRows(place, timer);
  }

  #spreadRows(place: number, timer: LaunchTimer): void {
    const { stream } = this.#tools;
    const { users, batchSize } = this.bags;
    if (this.#spread === undefined || users === undefined || batchSize === 0) return;
    const target = spreadTarget(this.operation.output);
    const spread = spreadLaunch(this.#spread, this.bags, users, users.pooled, target);
    timer.time(stream, { operation: place, kind: 'spread' }, () => putLaunch(stream, spread));
  }

  #enqueueCheck(): void {
    enqueueCheck(this.#tools.stream, this.#check, this.bags);
  }

  #pinBefore(pinned: Pinned, table: number, place: number, timer: LaunchTimer): void {
    const { stream } = this.#tools;
    const window = pinned.windows[table];
    if (window !== undefined) {
      stream.setAccessPolicyWindow({
        base: this.tables.rows(table, window.offset),
        bytes: window.bytes,
        hitRatio: 1,
        hit: 'persisting',
        miss: 'normal',
      });
      return;
    }
    timer.time(stream, { operation: place, kind: 'pin', table }, () =>
      this.#enqueuePin(pinned, table, stream),
    );
  }

  /** Pins a table on the second stream, from where the first one stands now. What it gives back happens when it is done. */
  #pinAside(pinned: Pinned, table: number, place: number, timer: LaunchTimer): CudaEvent | undefined {
    if (table >= this.tables.tables.length) return undefined;
    const { stream, sideStream } = this.#tools;
    const now = this.#tools.event();
    now.record(stream);
    sideStream.waitFor(now);
    timer.time(sideStream, { operation: place, kind: 'pin', table }, () =>
      this.#enqueuePin(pinned, table, sideStream),
    );
    const arrived = this.#tools.event();
    arrived.record(sideStream);
    return arrived;
  }

  #enqueuePin({ rows, kernel }: Pinned, t: number, stream: CudaStream): void {
    const table = at(this.tables.tables, t);
    const { rowNumbers, count } = at(rows, t);
    const words = PinRowsParams.encode({
      rows: this.tables.rows(t),
      rowStrideBytes: deviceRowBytes(table),
      rowBytes: deviceRowBytes(table),
      rowCount: table.rows,
      rowNumbers: rowNumbers.address(),
      count,
      stepBytes: PIN_STEP_BYTES,
    });
    const blocks = Math.min(MOST_PIN_BLOCKS, Math.ceil(count / PIN_BLOCK.rows));
    launch(stream, kernel, words, [Math.max(1, blocks)], [PIN_BLOCK.steps, PIN_BLOCK.rows]);
  }

  /** Where a table's pooled rows go: to the output, or with a bag per user to the users' rows. */
  #targetOf(t: number): { readonly output: number | bigint; readonly outputStride: number } {
    const { output } = this.operation;
    const { users } = this.bags;
    if (users === undefined || this.bags.bagsOf(t).perUser !== true)
      return { output: startOf(output, this.tables.columns[t] as number), outputStride: output.stride };
    const column = users.rows.columns[t] as number;
    return { output: users.pooled + column * elementBytes(output), outputStride: users.rows.width };
  }

  #enqueueBags(t: number): void {
    const { checking } = this.operation;
    const { tables, bags } = this;
    if (bags.batchSize === 0) return;
    const table = at(tables.tables, t);
    const { bags: own, indices, offsets, weights, count } = bags.of(t);
    const family = TABLE_FAMILIES[tableKernelFamily(tables.plan.kernel)];
    const words = family.encode(
      {
        rows: tables.rows(t),
        rowStrideBytes: deviceRowBytes(table),
        rowCount: table.rows,
        dim: table.dim,
        indices,
        offsets,
        lookups: lengthOf(own.indices),
        offsetCount: lengthOf(own.offsets),
        weights,
        rowWeights: tables.rowWeights(t),
        paddingIndex: table.paddingIdx ?? -1,
        ...this.#targetOf(t),
        batch: count,
        stop: checking === 'error' ? bags.total : 0n,
      },
      () => bags.notes.take(),
    );
    const { x, y } = DEFAULT_BLOCK;
    const grid = coveringGrid({ dim: table.dim, batch: count, block: DEFAULT_BLOCK });
    launch(this.#tools.stream, at(this.#kernels, t), words, [Math.min(grid, family.mostBlocks)], [x, y]);
  }
}

async function choosePinned(
  parameters: PinningParameters,
  { hotRows }: CudaTables,
  bags: CudaBags,
  { kernels }: StageTools,
): Promise<Pinned> {
  const kernel = await kernels.utility('pin_rows');
  await hotRows.countLive(bags);
  const { rows, windows } = await hotRows.choose(parameters);
  return { parameters, kernel, rows, windows };
}
