/** What can be asked about the models of a server, whatever protocol it is asked by. */
import { RequestError } from '../../errors.ts';
import type { RepositoryEntry } from './documents.ts';

/** What became of a patch. */
export interface PatchReceipt {
  readonly model: string;
  readonly version: string;
  /** Its number. */
  readonly sequence: number;
  /** Of all its tables. */
  readonly rows: number;
  /** False: the same patch was applied before, and nothing changed. */
  readonly applied: boolean;
}

/** The models of a server. Each call resolves when what it asks for is done. */
export interface ModelRepository {
  /** Models, versions and states. */
  index(): Promise<readonly RepositoryEntry[]>;
  /**
   * Loads a model, or loads it again. What is served stays until the new one is ready, and where that fails.
   * @throws ServeError MODEL_UNKNOWN, LOAD_FAILED, SHUTTING_DOWN.
   */
  load(model: string): Promise<void>;
  /** Takes a model away, after its requests. One that is not loaded stays so. @throws ServeError MODEL_UNKNOWN, SHUTTING_DOWN. */
  unload(model: string): Promise<void>;
  /**
   * Replaces rows of a model that is served: for all requests of a batch or for none. When it resolves, the patch is on disk.
   * @throws ServeError MODEL_UNKNOWN, MODEL_UNAVAILABLE, PATCH_INVALID, PATCH_GAP, PATCH_CONFLICT, SHUTTING_DOWN; FormatError
   *   SAFETENSORS_INVALID. Nothing has changed then.
   */
  patch(model: string, patch: Uint8Array): Promise<PatchReceipt>;
}

/**
 * Checks the names of the parameters of a request to load a model: settings and files come from the repository alone.
 * @throws RequestError REQUEST_INVALID.
 */
export function checkLoadParameters(parameters: Iterable<string>): void {
  const own = [...parameters].find((name) => name === 'config' || name.startsWith('file:'));
  if (own !== undefined)
    throw new RequestError(
      'REQUEST_INVALID',
      `parameter ${own}: models come from the server's folder alone`,
      {
        hint: "write the model's settings and files to the folder, and load it without parameters",
      },
    );
}
