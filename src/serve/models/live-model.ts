/** Models that are there: their engines, from start to end. */
import { setTimeout as sleep } from 'node:timers/promises';
import { at } from '../../at.ts';
import { deferred } from '../../deferred.ts';
import { HotrowError, ModelError } from '../../errors.ts';
import type { Patched } from '../engine/apply-patch.ts';
import type { EngineReady, KnownTimes } from '../engine/engine-messages.ts';
import type { Placing } from '../engine/model-source.ts';
import type { ServerFigures } from '../figures.ts';
import type { ServedHow } from '../page/live-event.ts';
import type { ModelAtFront } from '../requests/infer-model.ts';
import type { EngineThreads } from './engine-threads.ts';
import { ModelPatches } from './model-patches.ts';
import type { EngineEvents, RunningEngine } from './running-engine.ts';
import type { RunningFront } from './running-front.ts';
import type { ModelEvent, ServeModel } from './serve-model.ts';

export interface LiveOptions {
  readonly fronts: readonly RunningFront[];
  readonly figures: ServerFigures;
  /** Of the engines. */
  readonly threads: EngineThreads;
  /** Starts a copy. `isBeside`: another of the same name still runs, of which so much is `known`. */
  readonly startEngine: (
    model: ServeModel,
    placing: Placing,
    copy: StartedCopy,
    events: EngineEvents,
  ) => RunningEngine;
  /** How long an engine gets to stop. */
  readonly stopMs: number;
  readonly onEvent: (event: ModelEvent) => void;
  /** A copy that was served has ended: the server cannot go on. */
  readonly onLost: (error: Error) => void;
}

/** A copy of a model among the others. */
export interface StartedCopy {
  readonly instance: string;
  readonly isBeside: boolean;
  readonly known: KnownTimes | undefined;
}

/** A model that is there. */
export interface Live {
  readonly model: ServeModel;
  readonly engines: readonly RunningEngine[];
  /** Names it to the threads that receive requests. */
  readonly serial: number;
  /** Of the first copy. */
  readonly ready: EngineReady;
  /** Rejects when a copy ends by itself. */
  readonly lost: Promise<never>;
  /** What each copy had of its patches when it was ready. */
  readonly copiesPatched: readonly Patched[];
  /** Undefined: it takes none. */
  readonly patches: ModelPatches | undefined;
  /** Whether requests go to it: its end is the server's. */
  isServed: boolean;
  retireFigures(): void;
  /** What its engines run now. */
  readonly run: Run;
}

/** What some engines run: one model, then others that take its place. */
interface Run {
  live: Live | undefined;
}

export class LiveModels {
  readonly #options: LiveOptions;
  readonly #onSpoiled: (live: Live, error: Error) => void;
  /** All that have not ended. */
  readonly #running = new Set<RunningEngine>();
  #serials = 0;

  /** `onSpoiled`: a model cannot answer any more, and its engines go on. */
  constructor(options: LiveOptions, onSpoiled: (live: Live, error: Error) => void) {
    this.#options = options;
    this.#onSpoiled = onSpoiled;
  }

  /** Engines that run. */
  get copies(): number {
    return this.#running.size;
  }

  /** Names something to the threads that receive requests. */
  serial(): number {
    return this.#serials++;
  }

  /**
   * Starts the copies of a model, and waits until they are ready. `before`: what runs under its name until then.
   * @throws what keeps one of them from it; none is left then.
   */
  async start(model: ServeModel, before: Live | undefined): Promise<Live> {
    const { figures, fronts, threads, onEvent, onLost, startEngine } = this.#options;
    const { name } = model;
    threads.keep(model.placings.length);
    const serial = this.serial();
    const lost = deferred<never>();
    lost.promise.catch(() => {});
    const run: Run = { live: undefined };
    const engines = model.placings.map((placing, i) => {
      const instance = String(i);
      const engine = startEngine(
        model,
        placing,
        { instance, isBeside: before !== undefined, known: before?.engines[i]?.known },
        {
          progress: (text) => onEvent({ kind: 'loading', model: name, device: placing.device, text }),
          state: (state) => figures.engine(name, instance, state),
          failed: (error) => {
            onEvent({ kind: 'error', error });
            const { live } = run;
            if (live !== undefined && isOfChangedFile(error)) this.#onSpoiled(live, error);
          },
          lost: (error) => {
            lost.reject(error);
            for (const front of fronts) front.abandon(run.live?.serial ?? serial);
            if (run.live?.isServed === true) onLost(error);
          },
        },
      );
      this.#running.add(engine);
      engine.ended.then(() => void this.#running.delete(engine));
      return engine;
    });
    try {
      const readies = await Promise.all(engines.map(({ ready }) => ready));
      const added = readies.map(({ metrics }) => figures.add([metrics]));
      const retireFigures = () => {
        for (const { retire } of added) retire();
      };
      const ready = at(readies, 0);
      const live: Live = {
        model,
        engines,
        serial,
        ready,
        copiesPatched: readies.map(({ patched }) => patched),
        patches: patchesOf(model, engines, readies),
        lost: lost.promise,
        isServed: false,
        retireFigures,
        run,
      };
      run.live = live;
      return live;
    } catch (error) {
      await Promise.all(engines.map((engine) => engine.terminate()));
      throw error;
    }
  }

  /** Makes the engines of a model ready to be written another one's weights over. @throws why that cannot be; they go on then. */
  async prepareOverwrite(live: Live, model: ServeModel): Promise<void> {
    const { source, version, patches } = model;
    if (JSON.stringify(live.model.placings) !== JSON.stringify(model.placings))
      throw new ModelError('WEIGHTS_MISFIT', 'its devices, plan or precision are other ones now');
    await Promise.all(live.engines.map((engine) => engine.prepareOverwrite({ source, version, patches })));
  }

  /** Writes them: nobody sends requests to the engines. Gives back the model that they run now. @throws what fails; they have ended then. */
  async overwrite(live: Live, model: ServeModel): Promise<Live> {
    const { engines, lost, run, retireFigures } = live;
    live.isServed = false;
    try {
      const readies = await Promise.all(engines.map((engine) => engine.overwrite()));
      const patches = patchesOf(model, engines, readies);
      const copiesPatched = readies.map(({ patched }) => patched);
      const own = { model, engines, ready: at(readies, 0), lost, copiesPatched, patches, run, retireFigures };
      const renewed: Live = { ...own, serial: this.serial(), isServed: false };
      run.live = renewed;
      return renewed;
    } catch (error) {
      await Promise.all(engines.map((engine) => engine.terminate()));
      retireFigures();
      throw error;
    }
  }

  /** Ends engines that nobody sends requests to any more. */
  async end(live: Live): Promise<void> {
    const { stopMs, onEvent } = this.#options;
    live.isServed = false;
    for (const engine of live.engines) engine.stop();
    const ended = live.engines.map((engine) => engine.ended);
    if (!(await settleWithin(ended, stopMs))) {
      onEvent({
        kind: 'error',
        error: new Error(`an engine of ${live.model.name} did not stop in ${stopMs} ms`),
      });
      await Promise.all(live.engines.map((engine) => engine.terminate()));
    }
    live.retireFigures();
  }

  /** Asks all to stop, and their threads to end, and waits so long; whether they have. */
  stop(ms: number): Promise<boolean> {
    const { threads } = this.#options;
    threads.close();
    for (const engine of this.#running) engine.stop();
    return settleWithin([threads.ended()], ms);
  }

  /** Ends all threads. */
  async terminate(): Promise<void> {
    const { threads } = this.#options;
    threads.close();
    await Promise.all([...this.#running].map((engine) => engine.terminate()));
    await threads.terminate();
  }
}

/** Whether a file that a model has mapped was changed: its rows are not there any more. */
function isOfChangedFile(error: Error): boolean {
  return error instanceof HotrowError && error.code === 'FILE_CHANGED';
}

function patchesOf(
  { name, version, patches }: ServeModel,
  engines: readonly RunningEngine[],
  readies: readonly EngineReady[],
): ModelPatches | undefined {
  if (patches === undefined) return undefined;
  const { tables } = at(readies, 0);
  const least = readies.map(({ patched }) => patched).sort((a, b) => a.sequence - b.sequence);
  return new ModelPatches(patches, { name, version, tables }, engines, at(least, 0));
}

/** What a thread that receives requests is told of it. */
export function atFront({ model, engines, ready }: Live, front: number): ModelAtFront {
  const { name, version, slaMs } = model;
  const { inputs, tableRows, outputs, shape, pollMs } = ready;
  return {
    served: { name, version, inputs, tableRows, outputs },
    shape,
    pollMs,
    queues: engines.map((engine) => engine.queues(front)),
    isCompiled: engines.every(({ isCompiled }) => isCompiled),
    ...(slaMs === undefined ? {} : { slaMs }),
  };
}

/** What people are told of it. */
export function servedHow({ engines, ready }: Live): ServedHow {
  const { device, precision, plan, pinsRows, canPinRows } = ready;
  return { device, precision, plan, pinsRows, canPinRows, copies: engines.length };
}

/** Waits until all have settled, so long at most; whether they have. */
export async function settleWithin(works: readonly Promise<unknown>[], ms: number): Promise<boolean> {
  const waiting = new AbortController();
  const late = sleep(ms, false, { signal: waiting.signal }).catch(() => false);
  try {
    return await Promise.race([Promise.allSettled(works).then(() => true), late]);
  } finally {
    waiting.abort();
  }
}
