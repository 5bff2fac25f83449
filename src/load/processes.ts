/** Generators in processes of their own, and what they and this one tell each other. */
import { type ChildProcess, fork } from 'node:child_process';
import { throwIfAborted, untilAborted } from '../checks/abort.ts';
import { type ErrorCode, HotrowError, UsageError } from '../errors.ts';
import { endProgram, endWithProcess } from '../unfinished.ts';
import { Generator, type GeneratorFacts, type GeneratorSetup, type RunOrder } from './generator.ts';
import { Tally, type TallyCounts } from './tally.ts';

type Order =
  | { readonly kind: 'prepare'; readonly setup: GeneratorSetup }
  | { readonly kind: 'run'; readonly order: RunOrder }
  | { readonly kind: 'stop' };

type Report =
  | { readonly kind: 'ready'; readonly facts: GeneratorFacts }
  | { readonly kind: 'ran'; readonly counts: TallyCounts; readonly opened: number }
  | { readonly kind: 'failed'; readonly code?: ErrorCode; readonly message: string; readonly hint?: string };

/** What several generators did in one run. */
export interface RunResult {
  readonly tally: Tally;
  /** Connections that were opened so far. */
  readonly opened: number;
}

/** A run of the whole load; `rate` and `count` are those of all processes together. */
export type RunRequest = Omit<RunOrder, 'startMs'>;

/** What runs a load. */
export interface Runner {
  run(request: RunRequest): Promise<RunResult>;
}

/** How long processes get to hear of a run before it begins. */
const AHEAD_MS = 100;
/** Seeds of processes and runs are apart by so much. */
const SEED_STEP = 7919;

/** Processes that share a load. */
export class GeneratorProcesses implements Runner, Disposable {
  readonly #children: readonly Child[];
  readonly #signal: AbortSignal;
  /** Of the first process. */
  readonly facts: GeneratorFacts;

  /**
   * Starts `count` processes, each of `program`: a script and its arguments, which calls `serveParent`.
   * @throws what a process cannot prepare; AbortError.
   */
  static async start(
    program: readonly [string, ...string[]],
    count: number,
    setup: GeneratorSetup,
    signal: AbortSignal,
  ): Promise<GeneratorProcesses> {
    throwIfAborted(signal, 'load');
    const children = Array.from({ length: count }, () => new Child(program));
    try {
      const reports = children.map((child, i) =>
        child.ask({ kind: 'prepare', setup: { ...setup, seed: setup.seed + i * SEED_STEP } }),
      );
      const [first] = await untilAborted(Promise.all(reports), signal, 'load');
      if (first?.kind !== 'ready') throw new Error('a process answered something else');
      return new GeneratorProcesses(children, first.facts, signal);
    } catch (error) {
      for (const child of children) child.end();
      throw error;
    }
  }

  private constructor(children: readonly Child[], facts: GeneratorFacts, signal: AbortSignal) {
    this.#children = children;
    this.facts = facts;
    this.#signal = signal;
  }

  /** A run, divided among the processes. When the signal is aborted, it ends with what there is. */
  async run({ rate, count, seed, ...request }: RunRequest): Promise<RunResult> {
    const processes = this.#children.length;
    const startMs = Date.now() + AHEAD_MS;
    const stop = () => {
      for (const child of this.#children) child.tell({ kind: 'stop' });
    };
    const reports = this.#children.map((child, i) =>
      child.ask({
        kind: 'run',
        order: {
          ...request,
          startMs,
          rate: rate / processes,
          seed: seed * 31 + i * SEED_STEP,
          ...(count === undefined ? {} : { count: Math.floor((count + i) / processes) }),
        },
      }),
    );
    this.#signal.addEventListener('abort', stop);
    if (this.#signal.aborted) stop();
    try {
      const tally = new Tally();
      let opened = 0;
      for (const report of await Promise.all(reports)) {
        if (report.kind !== 'ran') throw new Error('a process answered something else');
        tally.add(report.counts);
        opened += report.opened;
      }
      return { tally, opened };
    } finally {
      this.#signal.removeEventListener('abort', stop);
    }
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) child.end();
  }
}

/** A process with a generator. */
class Child {
  readonly #process: ChildProcess;
  #answer:
    | { readonly resolve: (report: Report) => void; readonly reject: (error: Error) => void }
    | undefined;

  constructor([script, ...args]: readonly [string, ...string[]]) {
    // In a group of its own: a terminal's interrupt is the first process's alone.
    this.#process = fork(script, args, {
      detached: true,
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    endWithProcess(this.#process, { group: true });
    this.#process.on('message', (report: Report) => this.#hear(report));
    this.#process.on('error', (error) => this.#answer?.reject(error));
    this.#process.on('exit', (code, signal) => {
      this.#answer?.reject(new Error(`a process of the generator ended (${signal ?? code})`));
    });
  }

  ask(order: Order): Promise<Report> {
    return new Promise((resolve, reject) => {
      this.#answer = { resolve, reject };
      this.tell(order);
    });
  }

  tell(order: Order): void {
    // Of one that has ended, its exit tells.
    if (this.#process.connected) this.#process.send(order, () => {});
  }

  end(): void {
    this.#answer = undefined;
    endProgram(this.#process, { group: true });
  }

  #hear(report: Report): void {
    const answer = this.#answer;
    this.#answer = undefined;
    if (report.kind !== 'failed') {
      answer?.resolve(report);
      return;
    }
    const { code, message, hint } = report;
    const details = hint === undefined ? {} : { hint };
    answer?.reject(
      code === undefined
        ? new Error(message)
        : code === 'USAGE'
          ? new UsageError(code, message, details)
          : new HotrowError(code, message, details),
    );
  }
}

/** What such a process does: as it is told, until the first process is gone. */
export async function serveParent(): Promise<void> {
  let generator: Generator | undefined;
  const obey = async (order: Order): Promise<Report | undefined> => {
    switch (order.kind) {
      case 'prepare':
        generator = await Generator.prepare(order.setup);
        return { kind: 'ready', facts: generator.facts };
      case 'run': {
        const { tally, opened } = await (generator as Generator).run(order.order);
        return { kind: 'ran', counts: tally.toCounts(), opened };
      }
      case 'stop':
        generator?.stop();
        return undefined;
      default:
        return order satisfies never;
    }
  };
  const tell = (report: Report | undefined) => {
    if (report !== undefined && process.connected) process.send?.(report);
  };
  process.on('message', (order: Order) => {
    obey(order).then(tell, (error: Error) => {
      const known = error instanceof HotrowError ? { code: error.code, hint: error.hint } : {};
      tell({ kind: 'failed', message: error.message, ...known });
    });
  });
  await new Promise<void>((resolve) => process.once('disconnect', resolve));
  generator?.close();
}
