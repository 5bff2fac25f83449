/** The models of a thread: which one a request is for. They come, are replaced, and go, by the main thread's word. */
import { ServeError } from '../../errors.ts';
import type { SlotArena } from '../engine/arena.ts';
import { shortName } from '../protocol/refuse.ts';
import type { ModelName } from '../protocol/route.ts';
import type { BodyRoom } from './body-slot.ts';
import type { InferModel } from './infer-model.ts';

/** A model that is known and not served, and why. */
interface Absent {
  readonly reason: string;
}

export class FrontModels {
  readonly #byName = new Map<string, InferModel | Absent>();

  /** Requests go to `model` from now on. Gives back what they went to before. */
  serve(model: InferModel): InferModel | undefined {
    const { name } = model.served;
    const before = this.served(name);
    this.#byName.set(name, model);
    return before;
  }

  /** Requests for `name` are refused from now on: as not available for `reason`, or without one as unknown. Gives back what they went to. */
  withdraw(name: string, reason?: string): InferModel | undefined {
    const before = this.served(name);
    if (reason === undefined) this.#byName.delete(name);
    else this.#byName.set(name, { reason });
    return before;
  }

  /** Whether there is such a model, served or not. */
  isKnown(name: string): boolean {
    return this.#byName.has(name);
  }

  /** What is served under a name. */
  served(name: string): InferModel | undefined {
    const found = this.#byName.get(name);
    return found !== undefined && 'served' in found ? found : undefined;
  }

  /** All that are served. */
  get all(): InferModel[] {
    return [...this.#byName.values()].filter((model) => 'served' in model);
  }

  /** @throws ServeError MODEL_UNKNOWN, MODEL_UNAVAILABLE. */
  find({ model, version }: ModelName): InferModel {
    const found = this.#byName.get(model);
    if (found !== undefined && 'reason' in found)
      throw new ServeError(
        'MODEL_UNAVAILABLE',
        `the model ${shortName(model)} is not served: ${found.reason}`,
      );
    if (found !== undefined && (version === undefined || version === found.served.version)) return found;
    const what =
      version === undefined ? shortName(model) : `${shortName(model)}, version ${shortName(version)}`;
    throw new ServeError('MODEL_UNKNOWN', `there is no model ${what}`);
  }

  /** What a body gets of which it is not known yet which model's it is. */
  room(arena: SlotArena, mostBytes: number): BodyRoom {
    let [before, behind] = [0, 0];
    for (const model of this.all) {
      const own = model.room(arena);
      before = Math.max(before, own.before);
      behind = Math.max(behind, own.behind);
    }
    return { arena, before, behind, mostBytes };
  }
}
