/** A captured program, and the launches in it that follow the batch: their parameters are updated before it is launched again. */
import { at } from '../../../at.ts';
import type { CudaGraph } from '../../../cuda/graph.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { GraphNodeHandle } from '../../../ffi/cuda-symbols.ts';
import type { LaunchTime } from '../../backend.ts';
import type { EmbeddingStage, LaunchTimer } from '../embedding/embedding-stage.ts';
import { type KernelLaunch, parametersOf, sameLaunch } from '../kernels/launcher.ts';

/** By the place of their operation. */
type Stages = ReadonlyMap<number, Pick<EmbeddingStage, 'launches'>>;

interface CapturedLaunch {
  readonly node: GraphNodeHandle;
  launch: KernelLaunch;
}

/** Notes the launches of stages while they are captured. */
export class CaptureTimer implements LaunchTimer {
  /** By the place of their operation, in their order. */
  readonly launches = new Map<number, CapturedLaunch[]>();
  readonly #stages: Stages;

  constructor(stages: Stages) {
    this.#stages = stages;
  }

  time(stream: CudaStream, { operation }: Omit<LaunchTime, 'seconds'>, work: () => void): void {
    work();
    const node = stream.lastCapturedNode();
    const known = this.launches.get(operation) ?? [];
    const launch = this.#stages.get(operation)?.launches()?.[known.length];
    if (node !== undefined && launch !== undefined)
      this.launches.set(operation, [...known, { node, launch }]);
  }
}

export class CapturedProgram implements Disposable {
  readonly #graph: CudaGraph;
  readonly #launches: ReadonlyMap<number, readonly CapturedLaunch[]>;

  constructor(graph: CudaGraph, { launches }: CaptureTimer) {
    this.#graph = graph;
    this.#launches = launches;
  }

  /** Brings the graph to a batch; false: it has other kernels, and must be captured anew. */
  follow(stages: Stages): boolean {
    for (const [place, stage] of stages) {
      const known = this.#launches.get(place) ?? [];
      const launches = stage.launches();
      if (launches === undefined || launches.length !== known.length) return false;
      if (known.some(({ launch: { kernel } }, i) => kernel !== launches[i]?.kernel)) return false;
      for (const [i, captured] of known.entries()) {
        const launch = at(launches, i);
        if (sameLaunch(captured.launch, launch)) continue;
        this.#graph.updateKernel(captured.node, launch.kernel, launch.shape, parametersOf(launch.words));
        captured.launch = launch;
      }
    }
    return true;
  }

  launch(stream: CudaStream): void {
    this.#graph.launch(stream);
  }

  [Symbol.dispose](): void {
    this.#graph[Symbol.dispose]();
  }
}
