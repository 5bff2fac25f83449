/**
 * The cache of compiled kernels: one folder per entry, made aside and renamed into place, so that any number of
 * processes may share it. Whoever finds a damaged entry makes it anew.
 *
 *   <cache>/<id>-<key>/kernel.cubin  machine code
 *                      source.cu     the translation unit
 *                      log.txt       what the compiler said
 *                      entry.json    options, compiler, checksums; written last
 *
 * It stays bounded: now and then, after a compilation, entries that nobody used for MAX_IDLE_DAYS are deleted, and of
 * more than MAX_ENTRIES those unused longest. Deleting all of it is always safe.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { readWhole, writeWhole } from '../opened-file.ts';
import { makeFolder } from '../output-file.ts';
import { begin, finish } from '../unfinished.ts';
import { cacheFolder } from '../user-folders.ts';

/** Raised when entries of older versions must not be used any more. */
const CACHE_VERSION = 1;
const MAX_IDLE_DAYS = 90;
const MAX_ENTRIES = 4096;
const KEY_DIGITS = 32;
const DAY_MS = 24 * 3600 * 1000;
/** Folders being built. */
const UNFINISHED = '.unfinished-';

/** Everything that the machine code follows from. */
export interface CacheInputs {
  readonly id: string;
  readonly source: string;
  readonly headers: ReadonlyMap<string, string>;
  /** The architecture is one of them. */
  readonly options: readonly string[];
  readonly compiler: string;
}

export interface CompilerOutput {
  readonly cubin: Uint8Array;
  readonly log: string;
}

export interface CacheResult extends CompilerOutput {
  readonly cached: boolean;
  /** The entry's folder; undefined when the cache cannot be written. */
  readonly path: string | undefined;
}

export interface KernelCacheOptions {
  /** Default: $XDG_CACHE_HOME/hotrow/kernels, or ~/.cache/hotrow/kernels. */
  readonly folder?: string;
  /** Told once when the cache cannot be written; default: a warning of the process. */
  readonly onWarning?: (message: string) => void;
}

interface Entry {
  readonly key: string;
  readonly options: readonly string[];
  readonly compiler: string;
  /** SHA-256 by name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly cubinSha256: string;
  readonly logSha256: string;
  readonly createdAt: string;
}

export function cacheKey({ id, source, headers, options, compiler }: CacheInputs): string {
  const inputs = [CACHE_VERSION, id, source, [...headers], options, compiler];
  return sha256(JSON.stringify(inputs)).slice(0, KEY_DIGITS);
}

/** $XDG_CACHE_HOME/hotrow/kernels, or ~/.cache/hotrow/kernels. */
export function defaultCacheFolder(environment?: NodeJS.ProcessEnv): string {
  return cacheFolder(['kernels'], environment);
}

export class KernelCache {
  readonly folder: string;
  readonly #onWarning: (message: string) => void;
  readonly #underWay = new Map<string, Promise<CacheResult>>();
  #warned = false;
  #pruned = false;

  constructor(options: KernelCacheOptions = {}) {
    this.folder = options.folder ?? defaultCacheFolder();
    this.#onWarning = options.onWarning ?? ((message) => process.emitWarning(message, 'HotrowWarning'));
  }

  /** The entry of `key`, or what `build` makes. Calls for a key that is being made share the result. */
  fetch(inputs: CacheInputs, key: string, build: () => Promise<CompilerOutput>): Promise<CacheResult> {
    const running = this.#underWay.get(key);
    if (running !== undefined) return running;
    const started = this.#fetch(inputs, key, build).finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, started);
    return started;
  }

  async #fetch(inputs: CacheInputs, key: string, build: () => Promise<CompilerOutput>): Promise<CacheResult> {
    const path = join(this.folder, `${inputs.id.replaceAll(/[^\w.-]/g, '_')}-${key}`);
    const found = await readEntry(path, key);
    if (found !== undefined) return { ...found, cached: true, path };
    const built = await build();
    const written = await this.#write(path, key, inputs, built);
    if (written) await this.#prune();
    return { ...built, cached: false, path: written ? path : undefined };
  }

  /** Whether there is an entry at `path` now, ours or another process's. */
  async #write(
    path: string,
    key: string,
    { source, headers, options, compiler }: CacheInputs,
    { cubin, log }: CompilerOutput,
  ): Promise<boolean> {
    const unfinished = join(this.folder, `${UNFINISHED}${process.pid}-${randomBytes(6).toString('hex')}`);
    const entry: Entry = {
      key,
      options,
      compiler,
      headers: Object.fromEntries([...headers].map(([name, text]) => [name, sha256(text)])),
      cubinSha256: sha256(cubin),
      logSha256: sha256(log),
      createdAt: new Date().toISOString(),
    };
    begin(unfinished);
    try {
      await makeFolder(unfinished);
      await writeWhole(join(unfinished, 'kernel.cubin'), cubin);
      await writeWhole(join(unfinished, 'source.cu'), source);
      await writeWhole(join(unfinished, 'log.txt'), log);
      await writeWhole(join(unfinished, 'entry.json'), `${JSON.stringify(entry, undefined, 2)}\n`);
      await putInPlace(unfinished, path, key);
      return true;
    } catch (error) {
      if (!this.#warned) {
        this.#warned = true;
        const why = (error as Error).message;
        this.#onWarning(
          `kernels are compiled anew by every process: the cache ${this.folder} cannot be written (${why})`,
        );
      }
      return false;
    } finally {
      await rm(unfinished, { recursive: true, force: true }).catch(() => {});
      finish(unfinished);
    }
  }

  async #prune(): Promise<void> {
    if (this.#pruned) return;
    this.#pruned = true;
    await prune(this.folder).catch(() => {});
  }
}

/** Deletes what is no longer used, and what was never finished. */
export async function prune(folder: string, now = Date.now()): Promise<void> {
  const entries = await Promise.all(
    (await readdir(folder)).map(async (name) => {
      const path = join(folder, name);
      const idleMs = now - (await stat(path)).mtimeMs;
      return { path, idleMs, finished: !name.startsWith(UNFINISHED) };
    }),
  );
  const kept = entries
    .filter(({ finished }) => finished)
    .sort((a, b) => a.idleMs - b.idleMs)
    .filter(({ idleMs }, rank) => idleMs < MAX_IDLE_DAYS * DAY_MS && rank < MAX_ENTRIES);
  const keep = new Set(kept.map(({ path }) => path));
  for (const { path, idleMs, finished } of entries) {
    if (finished ? keep.has(path) : idleMs < DAY_MS) continue;
    await rm(path, { recursive: true, force: true });
  }
}

/** An entry that is whole; undefined: there is none, or it is damaged. */
async function readEntry(path: string, key: string): Promise<CompilerOutput | undefined> {
  try {
    const [entryText, cubin, log] = await Promise.all([
      readWhole(join(path, 'entry.json')).then(String),
      readWhole(join(path, 'kernel.cubin')),
      readWhole(join(path, 'log.txt')).then(String),
    ]);
    const entry = JSON.parse(entryText) as Partial<Entry> | null;
    if (entry?.key !== key || entry.cubinSha256 !== sha256(cubin) || entry.logSha256 !== sha256(log)) {
      return undefined;
    }
    await markUsed(path);
    return { cubin: new Uint8Array(cubin), log };
  } catch {
    return undefined;
  }
}

/** A folder's modification time is when it was last used, to the day. */
async function markUsed(path: string): Promise<void> {
  const now = Date.now();
  if (now - (await stat(path)).mtimeMs < DAY_MS) return;
  await utimes(path, now / 1000, now / 1000).catch(() => {});
}

/** Renames a finished folder into place. Another process may have been first: then its entry stays, unless damaged. */
async function putInPlace(finished: string, path: string, key: string): Promise<void> {
  try {
    await rename(finished, path);
    return;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOTDIR') throw error;
  }
  if ((await readEntry(path, key)) !== undefined) return;
  const damaged = `${finished}-damaged`;
  try {
    await rename(path, damaged);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  await rm(damaged, { recursive: true, force: true });
  await rename(finished, path).catch(async (error) => {
    // Between the two renames another process put its own there.
    if ((await readEntry(path, key)) === undefined) throw error;
  });
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}
