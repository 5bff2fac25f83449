/**
 * The models of a server: how each comes, is replaced, and goes, beside requests. A new one is loaded and warmed up beside the old
 * one, requests that come from then on go to it, and the old one ends with its last request.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { at } from '../at.ts';
import { deferred } from '../deferred.ts';
import { HotrowError, ServeError } from '../errors.ts';
import type { BatchingLimits, EngineReady } from './engine/engine-thread.ts';
import type { ModelSource, Placing } from './engine/model-source.ts';
import type { ServerFigures } from './figures.ts';
import type { RepositoryEntry } from './protocol/documents.ts';
import type { ModelAtFront } from './requests/infer-model.ts';
import type { EngineEvents, RunningEngine } from './running-engine.ts';
import type { RunningFront } from './running-front.ts';

/** A model to serve. */
export interface ServeModel {
  readonly name: string;
  readonly version: string;
  readonly source: ModelSource;
  /** Its copies, one on each. */
  readonly placings: readonly Placing[];
  /** Where it is not as the server's other models. */
  readonly batching?: Partial<BatchingLimits>;
  /** The time that its requests have which do not say; default: the server's. */
  readonly slaMs?: number;
  /** The same for the same files and settings; undefined: they do not change. */
  readonly fingerprint?: string;
  /** The folder of its patches; undefined: it takes none. */
  readonly patches?: string;
}

/** Where memory does not hold a model twice: it is not loaded again, or the old one ends first. */
export type ReloadMode = 'beside' | 'in-place';

/** What happens to models, for a log. */
export type ModelEvent =
  | { readonly kind: 'loading'; readonly model: string; readonly device: string; readonly text: string }
  | { readonly kind: 'loaded'; readonly model: string; readonly version: string; readonly ready: EngineReady }
  | { readonly kind: 'load-failed'; readonly model: string; readonly error: Error }
  | { readonly kind: 'unloaded'; readonly model: string; readonly version: string }
  | { readonly kind: 'error'; readonly error: Error };

/** Where models come from. */
export interface ModelCatalog {
  /** The names there are. @throws what keeps it from being read. */
  names(): Promise<readonly string[]>;
  /** What to serve under a name; undefined: there is no such model. @throws what is wrong with it. */
  find(name: string): Promise<ServeModel | undefined>;
}

export interface ModelsOptions {
  readonly catalog: ModelCatalog;
  readonly fronts: readonly RunningFront[];
  readonly figures: ServerFigures;
  /** Starts a copy. */
  readonly startEngine: (
    model: ServeModel,
    placing: Placing,
    instance: string,
    events: EngineEvents,
  ) => RunningEngine;
  /** How long an engine gets to stop. */
  readonly stopMs: number;
  readonly reload: ReloadMode;
  readonly onEvent: (event: ModelEvent) => void;
  /** A copy that was served has ended: the server cannot go on. */
  readonly onLost: (error: Error) => void;
}

/** A model that is there. */
interface Live {
  readonly model: ServeModel;
  readonly engines: readonly RunningEngine[];
  /** Names it to the threads that receive requests. */
  readonly serial: number;
  /** Of the first copy. */
  readonly ready: EngineReady;
  /** Rejects when a copy ends by itself. */
  readonly lost: Promise<never>;
  /** Whether requests go to it: its end is the server's. */
  isServed: boolean;
  retireFigures(): void;
}

/** A name that the server knows. */
class Place {
  live: Live | undefined;
  state: RepositoryEntry['state'] = 'UNAVAILABLE';
  /** Why nothing is served, or why the last load failed. */
  reason = 'it was not loaded yet';
  /** Whether somebody asked for that: what changes in its files does not load it. */
  isUnloaded = false;
  /** Loads and unloads, one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `work` after all that came before it. */
  after<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#last.then(work);
    this.#last = next.catch(() => {});
    return next;
  }
}

const OUT_OF_MEMORY_HINT =
  'make room, or start the server with --reload in-place, which ends the old one before the new one is loaded';

export class Models {
  readonly #options: ModelsOptions;
  readonly #places = new Map<string, Place>();
  /** All that have not ended. */
  readonly #running = new Set<RunningEngine>();
  #serials = 0;
  #isClosing = false;

  constructor(options: ModelsOptions) {
    this.#options = options;
  }

  /** Loads all models that there are, at once. @throws what any of them does not load for. */
  async loadAll(): Promise<void> {
    const names = await this.#options.catalog.names();
    const loading = names.map((name) => this.#load(name));
    try {
      await Promise.all(loading);
    } catch (error) {
      await Promise.allSettled(loading);
      throw error;
    }
  }

  /** @throws ServeError MODEL_UNKNOWN, LOAD_FAILED, SHUTTING_DOWN. */
  async load(name: string): Promise<void> {
    const { onEvent } = this.#options;
    try {
      await this.#load(name);
    } catch (error) {
      if (error instanceof ServeError && error.code !== 'REPOSITORY_INVALID') throw error;
      onEvent({ kind: 'load-failed', model: name, error: error as Error });
      const known = error instanceof HotrowError ? error : undefined;
      throw new ServeError('LOAD_FAILED', `${name} does not load: ${said(error)}`, {
        ...(known && { hint: isOutOfMemory(error) ? OUT_OF_MEMORY_HINT : known.hint }),
        cause: error,
      });
    }
  }

  /** Takes a model away. @throws ServeError MODEL_UNKNOWN, SHUTTING_DOWN. */
  async unload(name: string): Promise<void> {
    const place = this.#places.get(name);
    if (place === undefined) throw unknown(name);
    await place.after(async () => {
      this.#checkOpen();
      place.isUnloaded = true;
      place.reason = 'it was unloaded';
      await this.#withdraw(name, place, place.reason);
    });
  }

  /** Engines that run. */
  get copies(): number {
    return this.#running.size;
  }

  /** Reads again what there is: what is new or has changed is loaded, what has gone is taken away. @throws what keeps it from being read. */
  async refresh(): Promise<void> {
    const { catalog, onEvent } = this.#options;
    const names = await catalog.names();
    for (const [name, place] of this.#places)
      if (!names.includes(name))
        await place.after(async () => {
          await this.#withdraw(name, place, undefined);
          this.#places.delete(name);
        });
    for (const name of names) {
      const place = this.#places.get(name);
      if (place?.isUnloaded === true) continue;
      try {
        const model = await catalog.find(name);
        if (place?.live === undefined || model?.fingerprint !== place.live.model.fingerprint)
          await this.load(name);
      } catch (error) {
        // Those that did not load have been told.
        if (error instanceof ServeError && error.code === 'LOAD_FAILED') continue;
        if (place !== undefined) place.reason = said(error);
        this.#options.figures.loads(name, 'failed');
        onEvent({ kind: 'load-failed', model: name, error: error as Error });
      }
    }
  }

  index(): RepositoryEntry[] {
    return [...this.#places].map(([name, { live, state, reason }]) => {
      return { name, version: live?.model.version ?? '', state, reason };
    });
  }

  /** Asks all engines to stop, and waits so long; whether they have. */
  async stop(ms: number): Promise<boolean> {
    this.#isClosing = true;
    return stopped([...this.#running], ms);
  }

  /** Ends all threads. */
  async terminate(): Promise<void> {
    this.#isClosing = true;
    await Promise.all([...this.#running].map((engine) => engine.terminate()));
  }

  async #load(name: string): Promise<void> {
    this.#checkOpen();
    const { catalog } = this.#options;
    const known = this.#places.get(name);
    const place = known ?? new Place();
    await place.after(async () => {
      this.#checkOpen();
      const before = place.state;
      try {
        const model = await catalog.find(name);
        if (model === undefined) throw unknown(name);
        this.#places.set(name, place);
        place.state = before === 'READY' ? before : 'LOADING';
        await this.#replace(name, place, model);
        place.state = 'READY';
        place.reason = '';
        place.isUnloaded = false;
        this.#options.figures.loads(name, 'ok');
      } catch (error) {
        if (!isUnknown(error)) this.#options.figures.loads(name, 'failed');
        place.state = place.live === undefined ? 'UNAVAILABLE' : 'READY';
        place.reason = said(error);
        if (!isUnknown(error)) this.#places.set(name, place);
        throw error;
      }
    });
  }

  /** Has a model served instead of what is served under its name. */
  async #replace(name: string, place: Place, model: ServeModel): Promise<void> {
    const old = place.live;
    try {
      return await this.#replaceBeside(place, model);
    } catch (error) {
      if (old === undefined || !isOutOfMemory(error)) throw error;
      if (this.#options.reload === 'beside') throw error;
    }
    await this.#withdraw(name, place, 'it is being loaded again');
    place.state = 'LOADING';
    try {
      await this.#replaceBeside(place, model);
    } catch (error) {
      // What was served before is better than nothing.
      await this.#replaceBeside(place, old.model).catch(() => {});
      throw error;
    }
  }

  /** Loads a model beside what is served, and has it served instead. */
  async #replaceBeside(place: Place, model: ServeModel): Promise<void> {
    const { fronts } = this.#options;
    const live = await this.#start(model);
    try {
      for (const engine of live.engines) engine.begin(fronts.map(({ arena }) => arena));
      const prepared = fronts.map((front, i) => front.prepare(live.serial, atFront(live, i)));
      await Promise.race([Promise.all(prepared), live.lost]);
      this.#checkOpen();
      for (const engine of live.engines) engine.count();
      live.isServed = true;
      const left = Promise.all(fronts.map((front) => front.serve(live.serial)));
      const old = place.live;
      place.live = live;
      this.#options.figures.serves(model.name, model.version);
      this.#options.onEvent({ kind: 'loaded', model: model.name, version: model.version, ready: live.ready });
      await left;
      if (old !== undefined) await this.#end(old);
    } catch (error) {
      if (place.live !== live) await this.#end(live);
      throw error;
    }
  }

  /** Starts the copies of a model, and waits until they are ready. @throws what keeps one of them from it; none is left then. */
  async #start(model: ServeModel): Promise<Live> {
    const { figures, fronts, onEvent, onLost, startEngine } = this.#options;
    const { name } = model;
    const serial = this.#serials++;
    const lost = deferred<never>();
    lost.promise.catch(() => {});
    const started: { live: Live | undefined } = { live: undefined };
    const engines = model.placings.map((placing, i) => {
      const instance = String(i);
      const engine = startEngine(model, placing, instance, {
        progress: (text) => onEvent({ kind: 'loading', model: name, device: placing.device, text }),
        fits: (fits) => figures.fits(name, instance, fits),
        failed: (error) => onEvent({ kind: 'error', error }),
        lost: (error) => {
          lost.reject(error);
          for (const front of fronts) front.abandon(serial);
          if (started.live?.isServed === true) onLost(error);
        },
      });
      this.#running.add(engine);
      const forget = () => void this.#running.delete(engine);
      engine.ended.then(forget, forget);
      return engine;
    });
    try {
      const readies = await Promise.all(engines.map(({ ready }) => ready));
      const added = readies.map(({ metrics }) => figures.add([metrics]));
      const retireFigures = () => {
        for (const { retire } of added) retire();
      };
      const ready = at(readies, 0);
      const live = { model, engines, serial, ready, lost: lost.promise, isServed: false, retireFigures };
      started.live = live;
      return live;
    } catch (error) {
      await Promise.all(engines.map((engine) => engine.terminate()));
      throw error;
    }
  }

  /** Has requests for a model refused, and ends it. */
  async #withdraw(name: string, place: Place, reason: string | undefined): Promise<void> {
    const { live } = place;
    const serial = this.#serials++;
    if (live !== undefined) place.state = 'UNLOADING';
    await Promise.all(this.#options.fronts.map((front) => front.withdraw(serial, name, reason)));
    if (live === undefined) return;
    place.live = undefined;
    place.state = 'UNAVAILABLE';
    this.#options.figures.withdraws(name, live.engines.length);
    await this.#end(live);
    this.#options.onEvent({ kind: 'unloaded', model: name, version: live.model.version });
  }

  /** Ends engines that nobody sends requests to any more. */
  async #end(live: Live): Promise<void> {
    const { stopMs, onEvent } = this.#options;
    live.isServed = false;
    if (!(await stopped(live.engines, stopMs))) {
      onEvent({
        kind: 'error',
        error: new Error(`an engine of ${live.model.name} did not stop in ${stopMs} ms`),
      });
      await Promise.all(live.engines.map((engine) => engine.terminate()));
    }
    live.retireFigures();
  }

  #checkOpen(): void {
    if (this.#isClosing) throw new ServeError('SHUTTING_DOWN', 'the server is shutting down');
  }
}

function atFront({ model, engines, ready }: Live, front: number): ModelAtFront {
  const { name, version, slaMs } = model;
  const { inputs, tableRows, outputs, shape, pollMs } = ready;
  return {
    served: { name, version, inputs, tableRows, outputs },
    shape,
    pollMs,
    queues: engines.map((engine) => engine.queues(front)),
    ...(slaMs === undefined ? {} : { slaMs }),
  };
}

/** Asks engines to stop; whether all have, in so many ms. */
async function stopped(engines: readonly RunningEngine[], ms: number): Promise<boolean> {
  for (const engine of engines) engine.stop();
  return settleWithin(
    engines.map(({ ended }) => ended),
    ms,
  );
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

function isUnknown(error: unknown): boolean {
  return error instanceof ServeError && error.code === 'MODEL_UNKNOWN';
}

function isOutOfMemory(error: unknown): boolean {
  return error instanceof HotrowError && error.code === 'OUT_OF_MEMORY';
}

function unknown(name: string): ServeError {
  return new ServeError('MODEL_UNKNOWN', `there is no model ${name}`);
}

/** An error in a sentence. */
function said(error: unknown): string {
  if (error instanceof HotrowError) return `${error.code}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
