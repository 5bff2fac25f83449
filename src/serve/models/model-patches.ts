/** The patches of a model that is served: those that come by requests, and those that lie in its folder. */
import { ServeError, UsageError } from '../../errors.ts';
import type { Patched } from '../engine/apply-patch.ts';
import {
  isSamePatch,
  keptPatches,
  listPatches,
  type PatchFile,
  readPatchFile,
  removePatch,
  writePatch,
} from '../patches/patch-folder.ts';
import {
  checkSequence,
  inPatchFile,
  type PatchedModel,
  patchedRows,
  type RowPatch,
  readPatch,
} from '../patches/row-patch.ts';
import type { PatchReceipt } from '../protocol/repository.ts';

/** A copy of the model. */
export interface PatchedEngine {
  patch(bytes: Uint8Array, name: string): Promise<void>;
}

const SENT = 'the patch';

export class ModelPatches {
  readonly #folder: string;
  readonly #model: PatchedModel;
  readonly #engines: readonly PatchedEngine[];
  #patched: Patched;
  /** What of the folder was told to be wrong: it is not told again. */
  #told = '';

  /** `patched`: what all copies have. */
  constructor(folder: string, model: PatchedModel, engines: readonly PatchedEngine[], patched: Patched) {
    this.#folder = folder;
    this.#model = model;
    this.#engines = engines;
    this.#patched = patched;
  }

  get patched(): Patched {
    return this.#patched;
  }

  /**
   * Applies a patch that came by a request, once it is on disk.
   * @throws as readPatch; ServeError PATCH_GAP, PATCH_CONFLICT, REPOSITORY_INVALID; UsageError FILE_*. Nothing has changed then.
   *   PartlyPatched where some copies have it and others do not.
   */
  async receive(bytes: Uint8Array): Promise<PatchReceipt> {
    const patch = readPatch(bytes, SENT, this.#model);
    try {
      return await this.#take(patch, bytes);
    } catch (error) {
      // Another server of the same folder may have taken the number just now.
      const isTaken = error instanceof UsageError && (await keptPatches(this.#folder, 0)).has(patch.sequence);
      if (!isTaken) throw error;
      return this.#take(patch, bytes);
    }
  }

  async #take(patch: RowPatch, bytes: Uint8Array): Promise<PatchReceipt> {
    const { model, version, sequence } = patch;
    const receipt = { model, version, sequence, rows: patchedRows(patch) };
    // What lies in the folder comes first; what is wrong there is told to whoever looks after it.
    await this.look().catch((error) => {
      if (error instanceof PartlyPatched) throw error;
      this.#told = '';
    });
    const last = this.#patched.sequence;
    const kept = await keptPatches(this.#folder, last);
    if (sequence <= last) {
      const known = kept.get(sequence);
      if (known !== undefined && (await isSamePatch(known, bytes))) return { ...receipt, applied: false };
      throw new ServeError('PATCH_CONFLICT', `another patch ${sequence} was applied before`);
    }
    if (sequence > last + 1)
      throw new ServeError('PATCH_GAP', `patch ${last + 1} is missing before patch ${sequence}`);
    if (kept.has(sequence))
      throw new ServeError(
        'PATCH_CONFLICT',
        `another patch ${sequence} lies in the folder, and is not applied`,
        {
          hint: "the server's log says what is wrong with it: mend it, or take it away",
        },
      );
    const file = await writePatch(this.#folder, sequence, bytes);
    try {
      await this.#apply(bytes, SENT);
    } catch (error) {
      await removePatch(file);
      throw error;
    }
    this.#patched = { sequence, writtenAt: Date.now() };
    return { ...receipt, applied: true };
  }

  /**
   * Applies what is new in the folder. `copies`: what they have, where not all of them have what `patched` says.
   * @throws what is wrong with the first patch that is not applied, naming its file, unless it was thrown before.
   */
  async look(copies: readonly Patched[] = []): Promise<void> {
    let at = 'the folder';
    try {
      const least = Math.min(this.#patched.sequence, ...copies.map(({ sequence }) => sequence));
      for (const own of (await listPatches(this.#folder, this.#patched.sequence)).slice(least)) {
        at = own.file;
        await this.#applyFile(own, copies);
      }
      this.#told = '';
    } catch (error) {
      if (error instanceof PartlyPatched) throw error;
      const told = `${at}: ${(error as Error).message}`;
      if (told === this.#told) return;
      this.#told = told;
      throw error;
    }
  }

  async #applyFile({ file, sequence }: PatchFile, copies: readonly Patched[]): Promise<void> {
    const { bytes, writtenAt } = await readPatchFile(file);
    try {
      checkSequence(readPatch(bytes, file, this.#model), sequence);
      await this.#apply(bytes, file, (copy) => (copies[copy]?.sequence ?? 0) < sequence);
    } catch (error) {
      throw inPatchFile(error, file);
    }
    this.#patched = { sequence, writtenAt };
  }

  async #apply(
    bytes: Uint8Array,
    name: string,
    needs: (copy: number) => boolean = () => true,
  ): Promise<void> {
    const own = this.#engines.filter((_, copy) => needs(copy));
    const results = await Promise.allSettled(own.map((engine) => engine.patch(bytes, name)));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed === undefined) return;
    if (results.every(({ status }) => status === 'rejected')) throw failed.reason;
    throw new PartlyPatched(failed.reason);
  }
}

/** Some copies have a patch and others do not take it: they must be loaded again. */
export class PartlyPatched extends Error {
  constructor(cause: unknown) {
    super('a patch was taken by some copies of the model alone', { cause });
  }
}
