/** The fastest way to compute a linear layer on a GPU, found by trials. */
import type { BlockPool } from '../../../cuda/block-pool.ts';
import { CudaEvent } from '../../../cuda/event.ts';
import type { DeviceMemory } from '../../../cuda/memory.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import { isRefusal } from '../../../ffi/cublaslt.ts';
import { Trial, TrialMemory } from './dense-memory.ts';
import type { DeviceLinear } from './dense-operation.ts';
import type { KeptChoices } from './kept-choices.ts';
import {
  keptChoice,
  type LinearChoice,
  type LinearTail,
  mayBeDirect,
  type ProductChoice,
  roundingSplits,
  type TailSplit,
  tailSplits,
} from './linear-choice.ts';
import type { LinearLaunches } from './linear-launches.ts';
import { RoundingTrial } from './rounding-trial.ts';

/** How the fastest way to compute a shape is looked for. */
export interface LinearSearch {
  /** Algorithms of cuBLASLt that are tried for a shape. */
  readonly candidates: number;
  /**
   * Of a measurement: the fastest of `rounds`, each of `runs` in a graph. 0 rounds: nothing is measured, and the choice is always the
   * same: the direct kernel for few samples or outputs, else cuBLASLt's first that works, else the first cross product.
   */
  readonly rounds: number;
  readonly runs: number;
}

export const DEFAULT_LINEAR_SEARCH: LinearSearch = { candidates: 8, rounds: 4, runs: 5 };

/** What measurements need of the device that they are made on. */
export interface LinearTools {
  /**
   * Blocks until the streams that these kernels were put into are idle. Not by waiting for the context: that is refused while another
   * thread of the process captures.
   */
  readonly settle: () => void;
  /** Where memory for measurements is borrowed. */
  readonly pool: BlockPool<DeviceMemory>;
}

/** Measures with the launches' own workspace, once work that uses it is done. */
export class LinearChooser implements Disposable {
  readonly #launches: LinearLaunches;
  /** For measurements. */
  readonly #stream: CudaStream;
  readonly #search: LinearSearch;
  readonly #settle: () => void;
  readonly #trials: TrialMemory;
  /** What earlier processes measured; undefined: nothing is kept. */
  readonly #kept: KeptChoices | undefined;

  constructor(
    launches: LinearLaunches,
    stream: CudaStream,
    search: LinearSearch,
    { settle, pool }: LinearTools,
    kept?: KeptChoices,
  ) {
    this.#launches = launches;
    this.#stream = stream;
    this.#search = search;
    this.#settle = settle;
    this.#trials = new TrialMemory(stream, pool);
    this.#kept = kept;
  }

  /** How layers like this one, whose shape `key` names, are computed; blocks. @throws DeviceError OUT_OF_MEMORY. */
  choose(operation: DeviceLinear, key: string): LinearChoice {
    return this.#recall(operation, key) ?? this.#measured(operation, key);
  }

  [Symbol.dispose](): void {
    this.#trials[Symbol.dispose]();
  }

  /** The choice that was kept for a shape, if it can still be run. */
  #recall(operation: DeviceLinear, key: string): LinearChoice | undefined {
    const kept = this.#kept?.get(key);
    if (kept === undefined || kept.kind === 'direct') return kept;
    if (kept.kind === 'cross') {
      if (this.#launches.crossColumns(operation).includes(kept.columns)) return kept;
      this.#kept?.reject(key);
      return undefined;
    }
    this.#settle();
    using trial = new Trial(operation, this.#trials);
    const { fused, finished, scaled, rounds } = kept;
    const splits = rounds ? roundingSplitsOf(operation) : tailSplits(tailOf(operation));
    const split = splits.find(
      (own) => (own.epilogue !== 'none') === fused && own.finished === finished && own.scaled === scaled,
    );
    if (split !== undefined) {
      const words = BigUint64Array.from(kept.algorithm, (word) => BigInt(`0x${word}`));
      const algorithm = { words, workspaceBytes: kept.workspaceBytes };
      const choice = this.#launches.productOf(trial.operation, split, algorithm);
      trial.fillInput('NaNs');
      if (this.#keepsNaN(trial, choice)) return choice;
    }
    this.#kept?.reject(key);
    return undefined;
  }

  #measured(operation: DeviceLinear, key: string): LinearChoice {
    const choice = this.#choose(operation);
    this.#kept?.keep(key, keptChoice(choice));
    return choice;
  }

  /** The fastest way to compute a shape that gives what it must, measured on memory of its own. */
  #choose(operation: DeviceLinear): LinearChoice {
    const { layer, input } = operation;
    this.#settle();
    using trial = new Trial(operation, this.#trials);
    const products = this.#productChoices(trial);
    const rivals = [...products, ...this.#roundingChoices(trial), ...this.#crossChoices(trial)];
    const isDirect = mayBeDirect(input.rows, layer.outputs) || rivals.length === 0;
    const candidates: LinearChoice[] = isDirect ? [{ kind: 'direct' }, ...rivals] : rivals;
    const [first] = candidates;
    if (first !== undefined && (candidates.length === 1 || this.#search.rounds === 0)) return first;
    trial.fillInput('ones');
    let fastest: { readonly choice: LinearChoice; readonly ms: number } | undefined;
    for (const choice of candidates) {
      const ms = this.#measure(trial, choice);
      if (fastest === undefined || ms < fastest.ms) fastest = { choice, ms };
    }
    return fastest?.choice ?? { kind: 'direct' };
  }

  /** Products that give what they must. The library's epilogues come first; without one of use, the kernel's. */
  #productChoices(trial: Trial): readonly LinearChoice[] {
    for (const split of tailSplits(tailOf(trial.operation))) {
      const choices = this.#choicesOf(trial, split);
      if (choices.length > 0) return choices;
    }
    return [];
  }

  /** Products that leave an output in 8 bits alone; none where the library knows no such problem. */
  #roundingChoices(trial: Trial): LinearChoice[] {
    try {
      return roundingSplitsOf(trial.operation).flatMap((split) => this.#choicesOf(trial, split));
    } catch (error) {
      if (isRefusal(error)) return [];
      throw error;
    }
  }

  #choicesOf(trial: Trial, split: TailSplit): readonly LinearChoice[] {
    trial.fillInput('NaNs');
    const choices = this.#launches
      .products(trial.operation, split, this.#search.candidates)
      .filter((choice) => this.#keepsNaN(trial, choice));
    return split.finished ? choices : this.#roundingOnce(trial, choices);
  }

  /** The products that round an output with a bias in it once. */
  #roundingOnce(trial: Trial, choices: readonly ProductChoice[]): readonly ProductChoice[] {
    using rounding = RoundingTrial.of(trial, this.#trials);
    if (rounding === undefined) return choices;
    return choices.filter((choice) =>
      rounding.roundsOnce((own) => this.#launches.productWith(this.#stream, trial.operation, choice, own)),
    );
  }

  #crossChoices(trial: Trial): LinearChoice[] {
    trial.fillInput('NaNs');
    return this.#launches
      .crossColumns(trial.operation)
      .map((columns): LinearChoice => ({ kind: 'cross', columns }))
      .filter((choice) => this.#keepsNaN(trial, choice));
  }

  /** Whether a choice can be run, and a NaN in the input reaches the output: a library's ReLU may make it 0. */
  #keepsNaN(trial: Trial, choice: LinearChoice): boolean {
    try {
      this.#launches.enqueue(this.#stream, trial.operation, choice);
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
    return trial.firstIsNaN();
  }

  /** Milliseconds of one run, of a graph: small products take the GPU less time than their launches take the host. */
  #measure(trial: Trial, choice: LinearChoice): number {
    const { rounds, runs } = this.#search;
    using graph = this.#stream.capture(() => {
      for (let run = 0; run < runs; run++) this.#launches.enqueue(this.#stream, trial.operation, choice);
    });
    using start = new CudaEvent(this.#stream.device, { timing: true });
    using end = new CudaEvent(this.#stream.device, { timing: true });
    let fastest = Number.POSITIVE_INFINITY;
    for (let round = 0; round < rounds; round++) {
      start.record(this.#stream);
      graph.launch(this.#stream);
      end.record(this.#stream);
      this.#stream.synchronize();
      fastest = Math.min(fastest, end.msSince(start) / runs);
    }
    return fastest;
  }
}

function tailOf({ layer, activation, cross }: DeviceLinear): LinearTail {
  return {
    activation,
    biased: layer.hasBias,
    crossed: cross !== undefined,
    scaled: layer.scales !== undefined,
  };
}

/** The ways to compute a layer whose output is needed in 8 bits alone: products write it, but for zeros behind the last column. */
function roundingSplitsOf(operation: DeviceLinear): TailSplit[] {
  const { layer, rounded } = operation;
  const isPossible = rounded?.alone === true && rounded.cols === layer.outputs;
  return isPossible ? roundingSplits(tailOf(operation)) : [];
}
