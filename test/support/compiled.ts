/**
 * Libraries that tests compile, kept between runs in $XDG_CACHE_HOME/hotrow-tests or ~/.cache/hotrow-tests: a file each,
 * named by the hash of all that went into it, made aside and renamed into place, so that any number of processes may share
 * them. Each ends with the hash of its bytes, which loaders do not read: one that is damaged is as if it were not there.
 * When there are more than MOST_KEPT, those unused longest are deleted. Deleting all of them is always safe.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

const MOST_KEPT = 4000;
const HASH_BYTES = 32;
/** Nobody takes so long to copy a library: who was making it is gone. */
const UNFINISHED_MS = 3600 * 1000;
const UNFINISHED = '.unfinished-';

/** The default folder. */
export function compiledFolder({ XDG_CACHE_HOME: given = '' }: NodeJS.ProcessEnv = process.env): string {
  return join(isAbsolute(given) ? given : join(homedir(), '.cache'), 'hotrow-tests');
}

/** What a compiler says of itself; undefined: there is none. */
export function compilerVersion(compiler: string): string | undefined {
  const { status, stdout } = spawnSync(compiler, ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout : undefined;
}

/** The library that was kept for `inputs`; undefined: there is none, or it is damaged. */
export function keptLibrary(inputs: readonly string[], folder = compiledFolder()): string | undefined {
  const path = pathOf(inputs, folder);
  try {
    const bytes = readFileSync(path);
    const end = Math.max(0, bytes.length - HASH_BYTES);
    if (!sha256(bytes.subarray(0, end)).equals(bytes.subarray(end))) return undefined;
    const now = new Date();
    utimesSync(path, now, now);
    return path;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Keeps a library that was compiled from `inputs`. @returns where it is now. */
export function keepLibrary(
  inputs: readonly string[],
  library: string,
  { folder = compiledFolder(), mostKept = MOST_KEPT } = {},
): string {
  const path = pathOf(inputs, folder);
  mkdirSync(folder, { recursive: true });
  const aside = join(folder, `${UNFINISHED}${randomUUID()}`);
  try {
    copyFileSync(library, aside);
    appendFileSync(aside, sha256(readFileSync(library)));
    renameSync(aside, path);
  } finally {
    rmSync(aside, { force: true });
  }
  tidy(folder, mostKept);
  return path;
}

/** Keeps a library of the folder for more inputs: one file of several names. @returns where it is under the new one. */
export function shareLibrary(inputs: readonly string[], kept: string, folder = compiledFolder()): string {
  const path = pathOf(inputs, folder);
  const aside = join(folder, `${UNFINISHED}${randomUUID()}`);
  try {
    linkSync(kept, aside);
    renameSync(aside, path);
  } finally {
    rmSync(aside, { force: true });
  }
  return path;
}

/** Deletes what was left unfinished and, of more than `most` libraries, half of `most`: those unused longest. */
function tidy(folder: string, most: number): void {
  const names = readdirSync(folder);
  const remove = (name: string) => rmSync(join(folder, name), { force: true });
  const usedAt = (name: string) => statSync(join(folder, name), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  for (const name of names)
    if (name.startsWith(UNFINISHED) && usedAt(name) < Date.now() - UNFINISHED_MS) remove(name);
  const libraries = names.filter((name) => !name.startsWith(UNFINISHED));
  if (libraries.length <= most) return;
  const times = new Map(libraries.map((name) => [name, usedAt(name)]));
  const oldestFirst = libraries.toSorted((a, b) => (times.get(a) ?? 0) - (times.get(b) ?? 0));
  for (const name of oldestFirst.slice(0, libraries.length - Math.ceil(most / 2))) remove(name);
}

function pathOf(inputs: readonly string[], folder: string): string {
  return join(folder, `${sha256(JSON.stringify(inputs)).toString('hex').slice(0, 32)}.so`);
}

function sha256(data: string | Uint8Array): Buffer {
  return createHash('sha256').update(data).digest();
}
