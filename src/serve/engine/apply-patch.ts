/** Row patches in the thread of a model: all of one, or nothing. */
import type { DlrmModel } from '../../model/dlrm.ts';
import { listPatches, readPatchFile, removeUnfinished } from '../patches/patch-folder.ts';
import {
  checkSequence,
  inPatchFile,
  type PatchedModel,
  type RowPatch,
  readPatch,
  type TablePatch,
} from '../patches/row-patch.ts';

export type PatchableModel = Pick<DlrmModel, 'readRows' | 'updateRows'>;

/** What has been applied. */
export interface Patched {
  /** The number of the last patch; 0: none. */
  readonly sequence: number;
  /** When it was written, ms since 1970; undefined: there is none. */
  readonly writtenAt?: number;
}

/**
 * Applies a patch. `between` runs it when no batch is under way: a batch sees all of it or nothing. Where a table does not take its
 * part, the others get their rows back.
 * @throws as DlrmModel.updateRows.
 */
export async function applyPatch(
  model: PatchableModel,
  { updates }: RowPatch,
  between: (work: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const before: TablePatch[] = [];
  for (const { table, rows } of updates)
    before.push({ table, rows, values: await model.readRows(table, rows) });
  await between(async () => {
    for (const [i, { table, rows, values }] of updates.entries()) {
      try {
        await model.updateRows(table, rows, values);
      } catch (error) {
        for (const old of before.slice(0, i)) await model.updateRows(old.table, old.rows, old.values);
        throw error;
      }
    }
  });
}

/** Applies all patches of a folder to a model that answers nothing yet. @throws as listPatches, readPatch, DlrmModel.updateRows, naming the file. */
export async function replayPatches(
  model: PatchableModel,
  folder: string,
  of: PatchedModel,
  onProgress: (sequence: number, of: number) => void,
): Promise<Patched> {
  let patched: Patched = { sequence: 0 };
  await removeUnfinished(folder);
  const files = await listPatches(folder);
  for (const { file, sequence } of files) {
    onProgress(sequence, files.length);
    const { bytes, writtenAt } = await readPatchFile(file);
    try {
      const patch = readPatch(bytes, file, of);
      checkSequence(patch, sequence);
      for (const { table, rows, values } of patch.updates) await model.updateRows(table, rows, values);
    } catch (error) {
      throw inPatchFile(error, file);
    }
    patched = { sequence, writtenAt };
  }
  return patched;
}
