/**
 * The models of a server: how each comes, is replaced, and goes, beside requests. A new one is loaded and warmed up beside the old
 * one, requests that come from then on go to it, and the old one ends with its last request.
 */
import { availableParallelism } from 'node:os';
import { eachAtOnce } from '../../each-at-once.ts';
import { HotrowError, ServeError } from '../../errors.ts';
import type { ServedHow } from '../page/live-event.ts';
import type { RepositoryEntry } from '../protocol/documents.ts';
import type { PatchReceipt } from '../protocol/repository.ts';
import { atFront, type Live, LiveModels, type LiveOptions, servedHow } from './live-model.ts';
import { PartlyPatched } from './model-patches.ts';
import type { ModelCatalog, ReloadMode, ServeModel } from './serve-model.ts';

export interface ModelsOptions extends LiveOptions {
  readonly catalog: ModelCatalog;
  readonly reload: ReloadMode;
}

/** `if-changed`: not where the files are those of what is served, nor where somebody unloaded it. */
type LoadWhen = 'always' | 'if-changed';

/** A name that the server knows. */
class Place {
  live: Live | undefined;
  state: RepositoryEntry['state'] = 'UNAVAILABLE';
  /** Why nothing is served, or why the last load failed. */
  reason = 'it was not loaded yet';
  /** Whether somebody asked for that: what changes in its files does not load it. */
  isUnloaded = false;
  /** Whether its folder is looked into already. */
  isLooking = false;
}

/** Works on things that have names: those on one are done one after the other. */
class Turns {
  /** The last work on each name that is not done. */
  readonly #last = new Map<string, Promise<unknown>>();

  /** Runs `work` after all that came before it under its name. */
  after<T>(name: string, work: () => Promise<T>): Promise<T> {
    const next = (this.#last.get(name) ?? Promise.resolve()).then(work);
    const done = next
      .catch(() => {})
      .then(() => {
        if (this.#last.get(name) === done) this.#last.delete(name);
      });
    this.#last.set(name, done);
    return next;
  }
}

/** How often folders of patches are looked into. */
const LOOK_MS = 1000;
const OUT_OF_MEMORY_HINT =
  'make room, or start the server with --reload in-place, which writes the new one over the old one';

export class Models {
  readonly #options: ModelsOptions;
  readonly #places = new Map<string, Place>();
  /** Loads and unloads. What a name has is asked for in its turn: others before may change it. */
  readonly #loads = new Turns();
  /** Patches, and the moment when another model is served instead. */
  readonly #changes = new Turns();
  readonly #lives: LiveModels;
  #looking: NodeJS.Timeout | undefined;
  #isClosing = false;

  constructor(options: ModelsOptions) {
    this.#options = options;
    this.#lives = new LiveModels(options, (live, error) => this.#spoil(live, error));
  }

  /**
   * Loads all models that there are, as many at once as there are cores: each is timed while it warms up.
   * @throws what any of them does not load for.
   */
  async loadAll(): Promise<void> {
    const names = await this.#options.catalog.names();
    await eachAtOnce(names, availableParallelism(), (name) => this.#load(name, 'always'));
  }

  /** @throws ServeError MODEL_UNKNOWN, LOAD_FAILED, SHUTTING_DOWN. */
  load(name: string): Promise<void> {
    return this.#loadAndTell(name, 'always');
  }

  async #loadAndTell(name: string, when: LoadWhen): Promise<void> {
    const { onEvent } = this.#options;
    try {
      await this.#load(name, when);
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
    await this.#loads.after(name, async () => {
      this.#checkOpen();
      const place = this.#places.get(name);
      if (place === undefined) throw unknown(name);
      place.isUnloaded = true;
      place.reason = 'it was unloaded';
      await this.#withdraw(name, place, place.reason);
    });
  }

  /** Engines that run. */
  get copies(): number {
    return this.#lives.copies;
  }

  /**
   * Applies a patch to a model that is served.
   * @throws ServeError MODEL_UNKNOWN, MODEL_UNAVAILABLE, PATCH_INVALID for a model that takes none, SHUTTING_DOWN; as ModelPatches.receive.
   */
  async patch(name: string, bytes: Uint8Array): Promise<PatchReceipt> {
    return this.#changes.after(name, async () => {
      this.#checkOpen();
      const place = this.#places.get(name);
      if (place === undefined) throw unknown(name);
      const { live } = place;
      if (live === undefined)
        throw new ServeError('MODEL_UNAVAILABLE', `the model ${name} is not served: ${place.reason}`);
      if (live.patches === undefined)
        throw new ServeError('PATCH_INVALID', `${name} takes no patches: it comes from no repository`, {
          hint: 'patches are kept beside the versions of --models FOLDER',
        });
      try {
        return await live.patches.receive(bytes);
      } catch (error) {
        this.#mend(name, error);
        throw error;
      } finally {
        this.#tellPatched(live);
      }
    });
  }

  /** Looks for new patches in the folders of the models that are served, from now on. */
  watchPatches(): void {
    this.#looking = setInterval(() => {
      for (const [name, place] of this.#places) this.#lookForPatches(name, place);
    }, LOOK_MS);
  }

  #lookForPatches(name: string, place: Place): void {
    const { live } = place;
    if (live?.patches === undefined || place.isLooking || this.#isClosing) return;
    place.isLooking = true;
    const looking = this.#changes.after(name, async () => {
      if (place.live !== live || this.#isClosing) return;
      try {
        await live.patches?.look();
      } catch (error) {
        this.#mend(name, error);
        this.#options.onEvent({ kind: 'error', error: error as Error });
      } finally {
        this.#tellPatched(live);
      }
    });
    looking.finally(() => {
      place.isLooking = false;
    });
  }

  /** Copies that have not the same patches are loaded again. */
  #mend(name: string, error: unknown): void {
    if (error instanceof PartlyPatched) this.load(name).catch(() => {});
  }

  /** Takes a model away that cannot answer any more, until it is loaded again. */
  #spoil(live: Live, error: Error): void {
    const { name } = live.model;
    const withdrawn = this.#loads.after(name, async () => {
      const place = this.#places.get(name);
      if (place?.live !== live || this.#isClosing) return;
      place.reason = `${said(error)}: load it again`;
      await this.#withdraw(name, place, place.reason);
    });
    withdrawn.catch((error) => this.#options.onEvent({ kind: 'error', error }));
  }

  #tellPatched({ model: { name, version }, patches }: Live): void {
    if (patches !== undefined) this.#options.figures.patched(name, version, patches.patched);
  }

  /** Reads again what there is: what is new or has changed is loaded, what has gone is taken away. @throws what keeps it from being read. */
  async refresh(): Promise<void> {
    const names = await this.#options.catalog.names();
    for (const name of [...this.#places.keys()])
      if (!names.includes(name))
        await this.#loads.after(name, async () => {
          const place = this.#places.get(name);
          if (place === undefined) return;
          await this.#withdraw(name, place, undefined);
          this.#places.delete(name);
        });
    for (const name of names) {
      // Why one does not load has been told.
      await this.#loadAndTell(name, 'if-changed').catch(() => {});
      const place = this.#places.get(name);
      if (place !== undefined) this.#lookForPatches(name, place);
    }
  }

  index(): RepositoryEntry[] {
    return [...this.#places].map(([name, { live, state, reason }]) => {
      return { name, version: live?.model.version ?? '', state, reason };
    });
  }

  /** The same with how each is served. */
  described(): (RepositoryEntry & { readonly served: ServedHow | null })[] {
    return this.index().map((entry) => {
      const live = this.#places.get(entry.name)?.live;
      return { ...entry, served: live === undefined ? null : servedHow(live) };
    });
  }

  /** Asks all engines to stop, and waits so long; whether they have. */
  async stop(ms: number): Promise<boolean> {
    this.#isClosing = true;
    clearInterval(this.#looking);
    return this.#lives.stop(ms);
  }

  /** Ends all threads. */
  async terminate(): Promise<void> {
    this.#isClosing = true;
    clearInterval(this.#looking);
    await this.#lives.terminate();
  }

  async #load(name: string, when: LoadWhen): Promise<void> {
    this.#checkOpen();
    const { catalog } = this.#options;
    await this.#loads.after(name, async () => {
      this.#checkOpen();
      const place = this.#places.get(name) ?? new Place();
      if (when === 'if-changed' && place.isUnloaded) return;
      const before = place.state;
      try {
        const model = await catalog.find(name);
        if (model === undefined) throw unknown(name);
        this.#places.set(name, place);
        const { live } = place;
        if (when === 'if-changed' && live !== undefined && live.model.fingerprint === model.fingerprint) {
          place.reason = '';
          return;
        }
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
    await this.#overwrite(name, place, old, model);
  }

  /** Writes a model's weights over those of what is served, which answers nothing meanwhile. */
  async #overwrite(name: string, place: Place, old: Live, model: ServeModel): Promise<void> {
    await this.#lives.prepareOverwrite(old, model);
    place.state = 'LOADING';
    place.reason = 'it is being written over';
    const serial = this.#lives.serial();
    await this.#changes.after(name, async () => {
      await Promise.all(this.#options.fronts.map((front) => front.withdraw(serial, name, place.reason)));
      place.live = undefined;
    });
    try {
      await this.#serve(place, await this.#lives.overwrite(old, model));
    } catch (error) {
      // What was served before is better than nothing.
      await this.#replaceBeside(place, old.model).catch(() => {});
      throw error;
    }
  }

  /** Loads a model beside what is served, and has it served instead. */
  async #replaceBeside(place: Place, model: ServeModel): Promise<void> {
    const live = await this.#lives.start(model, place.live);
    for (const engine of live.engines) engine.begin(this.#options.fronts.map(({ arena }) => arena));
    await this.#serve(place, live);
  }

  /** Has a model served whose engines run. @throws what keeps it from that; it has ended then. */
  async #serve(place: Place, live: Live): Promise<void> {
    const { fronts } = this.#options;
    const { model } = live;
    try {
      const prepared = fronts.map((front, i) => front.prepare(live.serial, atFront(live, i)));
      await Promise.race([Promise.all(prepared), live.lost]);
      const old = await this.#changes.after(model.name, async () => {
        // Those that came while it was loaded.
        await live.patches?.look(live.copiesPatched);
        this.#checkOpen();
        for (const engine of live.engines) engine.count();
        live.isServed = true;
        const left = Promise.all(fronts.map((front) => front.serve(live.serial)));
        const before = place.live;
        place.live = live;
        return { before, left };
      });
      this.#options.figures.serves(model.name, model.version);
      this.#tellPatched(live);
      this.#options.onEvent({ kind: 'loaded', model: model.name, version: model.version, ready: live.ready });
      await old.left;
      if (old.before === undefined) return;
      await this.#lives.end(old.before);
      this.#options.figures.copies(model.name, live.engines.length);
      for (const engine of live.engines) engine.record();
    } catch (error) {
      if (place.live !== live) await this.#lives.end(live);
      throw error;
    }
  }

  /** Has requests for a model refused, and ends it. */
  async #withdraw(name: string, place: Place, reason: string | undefined): Promise<void> {
    const { live } = place;
    const serial = this.#lives.serial();
    if (live !== undefined) place.state = 'UNLOADING';
    await this.#changes.after(name, async () => {
      await Promise.all(this.#options.fronts.map((front) => front.withdraw(serial, name, reason)));
      place.live = undefined;
    });
    if (live === undefined) return;
    place.state = 'UNAVAILABLE';
    await this.#lives.end(live);
    this.#options.figures.withdraws(name);
    this.#options.onEvent({ kind: 'unloaded', model: name, version: live.model.version });
  }

  #checkOpen(): void {
    if (this.#isClosing) throw new ServeError('SHUTTING_DOWN', 'the server is shutting down');
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
