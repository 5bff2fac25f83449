/** A model's head, run on the same samples again and again: with any of its layers in 8 bits, or told what goes into each. */
import { at } from '../at.ts';
import type { Backend, Bindings, Matrix, Operation, PlacedTables } from '../backend/backend.ts';
import { keepingPlaced } from '../backend/keep-placed.ts';
import type { ScaledWeight } from '../backend/scaled-weight.ts';
import { Workspace } from '../backend/workspace.ts';
import { type DensePrecision, widePrecision } from '../device.ts';
import type { Head } from '../model/head.ts';
import { PlacedHead } from '../model/placed-head.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import type { Tensor } from '../tensor.ts';

/** Where a head runs, on what. */
export interface RunTarget {
  readonly backend: Backend;
  readonly tables: PlacedTables;
  readonly head: Head;
  /** Batches of at most so many samples. */
  readonly capacity: number;
  readonly requests: readonly DlrmRequest[];
  /** Called between batches; what it throws ends the run. */
  readonly onBatch: () => void;
}

/** Told of the inputs [samples, width] of a layer, by its place among the linear operations; `first`: the first one's number. */
export type OnInputs = (layer: number, values: Float32Array, width: number, first: number) => void;

/** The only output of a head, of all samples. */
export async function runHead(
  target: RunTarget,
  precision: DensePrecision,
  onInputs: OnInputs,
): Promise<Float64Array> {
  using placed = await PlacedHead.place({ backend: target.backend, precision }, target.head);
  return await runProgram(target, placed, (operations) => operations, onInputs);
}

/** A head in the wide precision and in 8 bits, so that any set of layers can be tried without placing weights anew. */
export class HeadVariants implements Disposable {
  readonly #target: RunTarget;
  readonly #wide: PlacedHead;
  readonly #scaled: PlacedHead;

  private constructor(target: RunTarget, wide: PlacedHead, scaled: PlacedHead) {
    this.#target = target;
    this.#wide = wide;
    this.#scaled = scaled;
  }

  /** `scaled`: the weights in 8 bits, by those that they are made of. */
  static place(target: RunTarget, scaled: ReadonlyMap<Tensor, ScaledWeight>): Promise<HeadVariants> {
    return keepingPlaced(async (keep) => {
      const { backend, head } = target;
      const wide = widePrecision(backend.device, 'float8_e4m3');
      return new HeadVariants(
        target,
        keep(await PlacedHead.place({ backend, precision: wide }, head)),
        keep(await PlacedHead.place({ backend, precision: 'float8_e4m3', scaled }, head)),
      );
    });
  }

  /** The only output of the head, of all samples, with some layers, by their places among the linear operations, in 8 bits. */
  run(layers: ReadonlySet<number>): Promise<Float64Array> {
    const { capacity, backend } = this.#target;
    return runProgram(this.#target, this.#wide, (operations) => {
      // The same operations, over weights in 8 bits.
      let scaled: readonly Operation[] = [];
      Workspace.elementsOf(backend.device, (workspace) => {
        scaled = this.#scaled.program(capacity, workspace).operations;
      });
      let layer = 0;
      return operations.map((operation, i) => {
        const other = at(scaled, i);
        if (operation.op !== 'linear' || other.op !== 'linear') return operation;
        return layers.has(layer++) ? { ...operation, layer: other.layer } : operation;
      });
    });
  }

  [Symbol.dispose](): void {
    this.#wide[Symbol.dispose]();
    this.#scaled[Symbol.dispose]();
  }
}

async function runProgram(
  { backend, tables, head, capacity, requests, onBatch }: RunTarget,
  placed: PlacedHead,
  change: (operations: readonly Operation[]) => readonly Operation[],
  onInputs?: OnInputs,
): Promise<Float64Array> {
  const { block, made } = Workspace.of(backend, (workspace) => placed.program(capacity, workspace));
  using _block = block;
  const { dense, pooled, outputs } = made;
  const taps: { readonly slot: string; readonly input: Matrix }[] = [];
  const operations = change(made.operations).flatMap((operation): Operation[] => {
    if (onInputs === undefined || operation.op !== 'linear') return [operation];
    const tap = { slot: `input ${taps.length}`, input: operation.input };
    taps.push(tap);
    return [{ op: 'download', input: tap.input, target: tap.slot }, operation];
  });
  using executable = backend.prepare([
    ...(dense === undefined ? [] : [{ op: 'upload', source: 'dense', output: dense } as const]),
    { op: 'embeddingBags', tables, bags: 'bags', output: pooled, checking: 'error' },
    ...operations,
    { op: 'download', input: at(outputs, 0), target: 'output' },
  ]);
  const samples = requests.reduce((sum, { batchSize }) => sum + batchSize, 0);
  const values = new Float64Array(samples);
  let first = 0;
  for (const request of requests) {
    onBatch();
    const { batchSize } = request;
    using bags = backend.placeBags(tables, request);
    const output = new Float32Array(batchSize);
    const inputs = taps.map(({ input }) => new Float32Array(batchSize * input.cols));
    const bindings: Record<string, Bindings[string]> = { bags, output };
    if (head.dense !== undefined) bindings.dense = request.dense;
    for (const [i, { slot }] of taps.entries()) bindings[slot] = at(inputs, i);
    await executable.run(bindings, { timing: 'none' });
    for (const [i, { input }] of taps.entries()) onInputs?.(i, at(inputs, i), input.cols, first);
    values.set(output, first);
    first += batchSize;
  }
  return values;
}
