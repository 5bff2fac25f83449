/** What a server is given to serve, and what it says of it. */
import type { BatchingLimits, EngineReady } from '../engine/engine-messages.ts';
import type { ModelSource, Placing } from '../engine/model-source.ts';

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

/** Where memory does not hold a model twice: it is not loaded again, or written over the old one, which answers nothing meanwhile. */
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
