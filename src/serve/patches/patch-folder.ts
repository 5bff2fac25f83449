/** The patches of a version, in its folder: NNNN.safetensors, numbered from 1 on without gaps. What is acknowledged is there, whole. */
import { lstat, mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ServeError, unwritable } from '../../errors.ts';
import { listFolder, openFile } from '../../input-file.ts';
import { OpenedFile, readWhole } from '../../opened-file.ts';
import { writeOutputFile } from '../../output-file.ts';

/** A patch in the folder. */
export interface PatchFile {
  readonly sequence: number;
  readonly file: string;
}

const NAME = /^0*([1-9]\d{0,8})\.safetensors$/;
/** Of a file's number, filled up with zeros. */
const DIGITS = 4;

/**
 * The patches that there are, in their order. `applied`: so many are to be there, since a model has them.
 * @throws ServeError PATCH_GAP naming the first number that is missing, PATCH_CONFLICT for two of one number, REPOSITORY_INVALID for
 *   what is no file, and for what is to be there and is not; UsageError FILE_*.
 */
export async function listPatches(folder: string, applied = 0): Promise<PatchFile[]> {
  const found = await keptPatches(folder, applied);
  const sorted = [...found].sort(([a], [b]) => a - b);
  for (const [i, [sequence]] of sorted.entries())
    if (sequence !== i + 1)
      throw new ServeError('PATCH_GAP', `${folder} has patch ${sequence}, and patch ${i + 1} is missing`, {
        file: folder,
      });
  return sorted.map(([sequence, file]) => ({ sequence, file }));
}

/**
 * The files of the patches that were applied, by number.
 * @throws ServeError PATCH_CONFLICT for two of one number, REPOSITORY_INVALID for what is no file, and where one is missing: the next
 *   server would not have it; UsageError FILE_*.
 */
export async function keptPatches(folder: string, applied: number): Promise<ReadonlyMap<number, string>> {
  const found = await filesByNumber(folder);
  for (let sequence = 1; sequence <= applied; sequence++)
    if (!found.has(sequence))
      throw new ServeError('REPOSITORY_INVALID', `${folder} has lost patch ${sequence}, which is applied`, {
        file: folder,
        hint: 'put it back, or load the model again without it',
      });
  return found;
}

async function filesByNumber(folder: string): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  for (const entry of await listFolder(folder).catch(noneThere)) {
    const number = NAME.exec(entry.name)?.[1];
    if (number === undefined) continue;
    const file = join(folder, entry.name);
    // A link may lead anywhere, and what it leads to may change.
    if (!entry.isFile()) throw new ServeError('REPOSITORY_INVALID', `${file} is no file`, { file });
    const sequence = Number(number);
    const other = found.get(sequence);
    if (other !== undefined)
      throw new ServeError('PATCH_CONFLICT', `${other} and ${file} have one number`, { file });
    found.set(sequence, file);
  }
  return found;
}

function noneThere(error: unknown): [] {
  if (error instanceof Error && 'code' in error && error.code === 'FILE_NOT_FOUND') return [];
  throw error;
}

/** The bytes of a patch, and when it was written, ms since 1970. @throws UsageError FILE_*. */
export async function readPatchFile(
  file: string,
): Promise<{ readonly bytes: Uint8Array<ArrayBuffer>; readonly writtenAt: number }> {
  await using opened = await openFile(file);
  const { mtimeMs } = opened.stat();
  return { bytes: new Uint8Array(await opened.readAll()), writtenAt: mtimeMs };
}

/**
 * Writes a patch: when it resolves, no crash loses it. Gives back its file.
 * @throws UsageError FILE_UNWRITABLE, for one that is there too, and where the folder of the version has gone.
 */
export async function writePatch(folder: string, sequence: number, bytes: Uint8Array): Promise<string> {
  const file = join(folder, `${String(sequence).padStart(DIGITS, '0')}.safetensors`);
  // The folder of a version is never made: one without a checkpoint would be served next.
  await mkdir(folder).catch((cause) => {
    if (cause.code !== 'EEXIST') throw unwritable(file, cause);
  });
  await writeOutputFile(file, bytes, { isNew: true });
  // The names too, and that of the folder, which may be new.
  for (const of of [folder, dirname(folder)]) await syncFolder(of);
  return file;
}

/** What a server that was killed had begun to write. */
const UNFINISHED = /^\d+\.safetensors\.[0-9a-f]+\.partial$/;
/** Another server may be writing to the folder: no patch takes so long. */
const UNFINISHED_MS = 600_000;

/** Removes what servers that were killed left in the folder. `now`: ms since 1970. @throws UsageError FILE_*. */
export async function removeUnfinished(folder: string, now = Date.now()): Promise<void> {
  for (const { name } of await listFolder(folder).catch(noneThere)) {
    if (!UNFINISHED.test(name)) continue;
    const file = join(folder, name);
    const { mtimeMs } = await lstat(file);
    if (now - mtimeMs > UNFINISHED_MS) await rm(file, { force: true });
  }
}

/** Takes a patch away that was not applied. */
export async function removePatch(file: string): Promise<void> {
  await rm(file, { force: true });
  await syncFolder(dirname(file));
}

async function syncFolder(folder: string): Promise<void> {
  await using opened = new OpenedFile(folder, 'r');
  await opened.sync();
}

/** Whether a patch's file has these bytes. */
export async function isSamePatch(file: string, bytes: Uint8Array): Promise<boolean> {
  return Buffer.compare(await readWhole(file), bytes) === 0;
}
