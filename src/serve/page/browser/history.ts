/** What the page remembers of a model, for its charts. */
import type { LiveEvent, LiveModel } from '../live-event.ts';

/** How far charts go back, s. */
export const HISTORY_SECONDS = 120;

export interface Moment {
  /** ms since 1970. */
  readonly at: number;
  readonly model: LiveModel;
}

export class History {
  readonly #moments = new Map<string, Moment[]>();

  add({ at, models }: LiveEvent): void {
    const names = new Set(models.map(({ name }) => name));
    for (const name of this.#moments.keys()) if (!names.has(name)) this.#moments.delete(name);
    for (const model of models) {
      const own = this.#moments.get(model.name) ?? [];
      this.#moments.set(model.name, [
        ...own.filter((moment) => at - moment.at <= 1000 * HISTORY_SECONDS && moment.at < at),
        { at, model },
      ]);
    }
  }

  /** The oldest first. */
  of(model: string): readonly Moment[] {
    return this.#moments.get(model) ?? [];
  }
}
