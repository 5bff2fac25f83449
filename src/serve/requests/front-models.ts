/** The models of a thread: which one a request is for. */
import { ServeError } from '../../errors.ts';
import type { SlotArena } from '../engine/arena.ts';
import type { RepositoryEntry } from '../protocol/documents.ts';
import { shortName } from '../protocol/refuse.ts';
import type { ModelName } from '../protocol/route.ts';
import type { BodyRoom } from './body-slot.ts';
import type { InferModel } from './infer-model.ts';

export class FrontModels {
  readonly #byName = new Map<string, InferModel>();

  /** Requests go to `model` from now on. */
  serve(model: InferModel): void {
    this.#byName.set(model.served.name, model);
  }

  /** All that are served. */
  get all(): InferModel[] {
    return [...this.#byName.values()];
  }

  /** @throws ServeError MODEL_UNKNOWN. */
  find({ model, version }: ModelName): InferModel {
    const found = this.#byName.get(model);
    if (found !== undefined && (version === undefined || version === found.served.version)) return found;
    const what =
      version === undefined ? shortName(model) : `${shortName(model)}, version ${shortName(version)}`;
    throw new ServeError('MODEL_UNKNOWN', `there is no model ${what}`);
  }

  /** What a body gets of which it is not known yet which model's it is. */
  room(arena: SlotArena, mostBytes: number): BodyRoom {
    let [before, behind] = [0, 0];
    for (const model of this.#byName.values()) {
      const own = model.room(arena);
      before = Math.max(before, own.before);
      behind = Math.max(behind, own.behind);
    }
    return { arena, before, behind, mostBytes };
  }

  /** What the repository has. */
  index(isReady: boolean): RepositoryEntry[] {
    return this.all.map(({ served: { name, version } }) => ({
      name,
      version,
      state: isReady ? 'READY' : 'UNAVAILABLE',
      reason: isReady ? '' : 'the server is shutting down',
    }));
  }
}
