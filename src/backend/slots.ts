/** Slots of programs: what a run binds to them, and what of its operations that makes. */
import { arrayName, lengthOf } from '../checks/array.ts';
import { refuseOption } from '../checks/value.ts';
import type { DeviceDescription } from '../device.ts';
import { DeviceError, UsageError } from '../errors.ts';
import type {
  Bindings,
  BoundOperation,
  Executable,
  Extent,
  Operation,
  RunOptions,
  RunReport,
} from './backend.ts';
import { checkDevice } from './devices.ts';
import { checkFormats } from './formats.ts';

/** The name of an operation's slot; undefined: it has none. */
function slotOf(operation: Operation): string | undefined {
  const value = boundMember(operation);
  return typeof value === 'string' ? value : undefined;
}

function boundMember(operation: Operation): unknown {
  switch (operation.op) {
    case 'upload':
      return operation.source;
    case 'download':
      return operation.target;
    case 'embeddingBags':
      return operation.bags;
    default:
      return undefined;
  }
}

/** A program of one device, whose slots are known. */
export class Template {
  readonly program: readonly Operation[];
  /** The operations that have slots, by their places. */
  readonly #places = new Map<number, string>();
  readonly #slots: ReadonlySet<string>;

  /** @throws UsageError OPTION_INVALID for operations that mix devices or formats, or are not on this one. */
  constructor(program: readonly Operation[], device: DeviceDescription) {
    checkDevice(program, device);
    checkFormats(program, device);
    this.program = program;
    program.forEach((operation, place) => {
      const slot = slotOf(operation);
      if (slot !== undefined) this.#places.set(place, slot);
    });
    this.#slots = new Set(this.#places.values());
  }

  /**
   * The operations of one run; those without slots are the program's own.
   * @throws UsageError OPTION_INVALID naming the binding: missing, of a slot that the program does not have, an array of another
   *   type or of more rows than there is room for, bags of more samples.
   */
  bind(bindings: Bindings = {}): BoundOperation[] {
    const operations = [...this.program];
    for (const [place, slot] of this.#places) {
      operations[place] = bindOne(operations[place] as Operation, bindings[slot], slot);
    }
    for (const slot of Object.keys(bindings)) {
      if (!this.#slots.has(slot))
        refuseOption(`run: bindings.${slot}`, bindings[slot], 'none: no operation has this slot');
    }
    return operations as BoundOperation[];
  }
}

function bindOne(operation: Operation, value: Bindings[string] | undefined, slot: string): BoundOperation {
  const at = `run: bindings.${slot}`;
  if (value === undefined) return refuseOption(at, value, 'given: the program has this slot');
  switch (operation.op) {
    case 'upload':
      checkArray(value, 'Float32Array', operation.output, at);
      return { ...operation, source: value as Float32Array };
    case 'download': {
      const { format = 'float32' } = operation.input;
      checkArray(value, format === 'float32' ? 'Float32Array' : 'Uint16Array', operation.input, at);
      return { ...operation, target: value as Float32Array | Uint16Array };
    }
    case 'embeddingBags': {
      if (!('batchSize' in value)) return refuseOption(at, value, 'placed bags');
      const { rows } = operation.output;
      if (value.batchSize > rows) refuseOption(`${at}.batchSize`, value.batchSize, `at most ${rows}`);
      return { ...operation, bags: value };
    }
    default:
      throw new TypeError(`${operation.op} has no slot`);
  }
}

function checkArray(
  value: Bindings[string],
  type: 'Float32Array' | 'Uint16Array',
  matrix: Pick<Extent, 'rows' | 'cols'>,
  at: string,
): void {
  if (arrayName(value) !== type) refuseOption(at, value, `a ${type}`);
  checkRows(lengthOf(value as Float32Array), matrix, at);
}

/** An array of `length` elements holds whole rows of a matrix, at most all. @throws UsageError OPTION_INVALID. */
export function checkRows(length: number, { rows, cols }: Pick<Extent, 'rows' | 'cols'>, at: string): void {
  if (length <= rows * cols && (cols === 0 || length % cols === 0)) return;
  refuseOption(`${at}.length`, length, `whole rows of ${cols} elements, at most ${rows}`);
}

/** Seconds by stage; `seconds`: of each operation, or empty. */
export function stageSeconds(
  program: readonly Operation[],
  seconds: Float64Array,
): Readonly<Record<string, number>> {
  const stages: Record<string, number> = {};
  if (seconds.length === 0) return stages;
  program.forEach(({ stage }, i) => {
    if (stage !== undefined) stages[stage] = (stages[stage] ?? 0) + (seconds[i] as number);
  });
  return stages;
}

/** An executable that is not run twice at once, nor after its end, which waits for a run under way. */
export abstract class OneAtATime implements Executable {
  /** What every run ends with. */
  readonly #run: Disposable = { [Symbol.dispose]: () => this.#leave() };
  #running = false;
  #disposed = false;

  abstract run(bindings?: Bindings, options?: RunOptions): Promise<RunReport>;

  /** Begins a run, which ends when what is given back is disposed. @throws DeviceError DISPOSED; UsageError USAGE. */
  protected enter(): Disposable {
    if (this.#disposed) throw new DeviceError('DISPOSED', 'a program was used after it was disposed');
    if (this.#running) {
      throw new UsageError('USAGE', 'the program runs already', {
        hint: 'run it again when it is done, or prepare another',
      });
    }
    this.#running = true;
    return this.#run;
  }

  #leave(): void {
    this.#running = false;
    if (this.#disposed) this.giveBack();
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.#running) this.giveBack();
  }

  /** Gives back what it holds, once. */
  protected abstract giveBack(): void;
}
