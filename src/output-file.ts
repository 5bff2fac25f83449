/**
 * Every file that is written for a user: checked before the work that makes it, written beside its place, and put there whole.
 *
 * A link is followed, and what it points to is replaced. A file that is replaced keeps its owner and permissions; its other hard
 * links keep the old contents. Devices, pipes, sockets and folders are refused.
 */
import { randomBytes } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { link, mkdir, readlink, realpath, rename, rm, stat, statfs } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { systemReason, type UsageError, unwritable } from './errors.ts';
import { formatBytes } from './numbers.ts';
import { OpenedFile, textIfThere } from './opened-file.ts';
import { begin, finish } from './unfinished.ts';

export interface OutputOptions {
  /** Bytes that will be written, where they are known beforehand. */
  readonly bytes?: number;
  /** Whether a file that is there is refused rather than replaced. */
  readonly isNew?: boolean;
  /** Whether its folder is made where it is missing. */
  readonly makesFolder?: boolean;
  /** Files that it is made of, by whatever path: none of them is replaced. */
  readonly sources?: readonly string[];
}

/** Where an output goes. */
export interface OutputPlace {
  /** Absolute, without links. */
  readonly path: string;
  /** The file that is there. */
  readonly replaces: BigIntStats | undefined;
}

/** What an output holds: as a whole, or made piece by piece while it is written. */
export type OutputContents = string | Uint8Array | (() => AsyncIterable<Uint8Array>);

/** As many as Linux follows. */
const MAX_LINKS = 40;
/** Of a name; with what is added it stays below the 255 bytes that file systems allow. */
const NAME_CHARACTERS = 60;
const STICKY = 0o1000n;
const PERMISSIONS = 0o777n;

/**
 * Checks that a file can be written, before the work that makes it. Leaves nothing behind.
 * @throws UsageError FILE_UNWRITABLE.
 */
export async function checkOutputFile(file: string, options: OutputOptions = {}): Promise<OutputPlace> {
  try {
    return await checked(file, options);
  } catch (cause) {
    throw failure(file, cause);
  }
}

/**
 * Writes a file whole or not at all. What was there before stays until then.
 * @throws UsageError FILE_UNWRITABLE; what `contents` throws.
 */
export async function writeOutputFile(
  file: string,
  contents: OutputContents,
  options: OutputOptions = {},
): Promise<void> {
  const whole = typeof contents === 'string' ? Buffer.from(contents) : contents;
  const bytes = typeof whole === 'function' ? options.bytes : whole.byteLength;
  const place = await checkOutputFile(file, { ...options, ...(bytes === undefined ? {} : { bytes }) });
  const partial = partialOf(place.path);
  const failed = (cause: unknown): never => {
    throw failure(file, cause);
  };
  try {
    const made = await create(partial).catch(failed);
    try {
      if (typeof whole !== 'function') await made.write(whole).catch(failed);
      else for await (const chunk of whole()) await made.write(chunk).catch(failed);
      if (place.replaces !== undefined) await keepOwner(made, place.replaces).catch(failed);
      // Else a crash of the machine could leave an empty file in the place of what was there.
      await made.sync().catch(failed);
    } finally {
      await made.close().catch(failed);
    }
    await (options.isNew === true ? takeNew : rename)(partial, place.path).catch(failed);
  } finally {
    await discard(partial);
  }
}

function failure(file: string, cause: unknown): UsageError {
  if (!(cause instanceof Refusal)) return unwritable(file, cause);
  const { message, hint } = cause;
  return unwritable(file, cause.cause ?? cause, { why: message, ...(hint === undefined ? {} : { hint }) });
}

async function checked(file: string, options: OutputOptions) {
  const { bytes = 1, isNew = false, makesFolder = false, sources = [] } = options;
  if (file === '') throw new Refusal('its name is empty');
  if (file.endsWith('/')) throw new Refusal('it names a folder');
  if (makesFolder) await makeFolder(dirname(file));
  // Before links are followed: those of /proc/self/fd lead to files without a path.
  refuseKind(await existing(file));
  const path = await withoutLinks(file);
  const replaces = await existing(path);
  refuseKind(replaces);
  const folder = dirname(path);
  if (replaces !== undefined) {
    if (isNew) throw new Refusal('it is there already', { hint: 'name another file, or take it away first' });
    for (const source of sources) {
      if (isSameFile(replaces, await existing(source)))
        throw new Refusal(`it would replace ${source}, which it is made of`, { hint: 'name another file' });
    }
    await checkReplaceable(path, replaces, await stat(folder, { bigint: true }));
  }
  await checkRoom(folder, bytes);
  await probe(path).catch((cause) => {
    throw inFolder(folder, cause);
  });
  return { path, replaces };
}

/**
 * Makes a folder and those above it; one that is there is left alone. Node's own way does not end where the system says of one that can
 * never be made that it is missing, as below /proc.
 * @throws errors of the system.
 */
export async function makeFolder(folder: string, mode = 0o777): Promise<void> {
  const make = () =>
    mkdir(folder, { mode }).catch(async (error) => {
      if (error.code !== 'EEXIST' || !(await stat(folder)).isDirectory()) throw error;
    });
  try {
    await make();
  } catch (error) {
    const above = dirname(folder);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || above === folder) throw error;
    await makeFolder(above, mode);
    await make();
  }
}

/** Whether both are there and are one file, by whatever path. */
export function isSameFile(a: BigIntStats | undefined, b: BigIntStats | undefined): boolean {
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}

/** Why a file cannot be written, where the system did not say so. */
class Refusal extends Error {
  readonly hint: string | undefined;

  constructor(why: string, { hint, cause }: { readonly hint?: string; readonly cause?: unknown } = {}) {
    super(why, { cause });
    this.hint = hint;
  }
}

/** What is at `path`, over links; undefined: nothing, or a link to nothing. */
async function existing(path: string): Promise<BigIntStats | undefined> {
  try {
    return await stat(path, { bigint: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function refuseKind(info: BigIntStats | undefined): void {
  if (info === undefined || info.isFile()) return;
  if (info.isDirectory()) throw new Refusal('it is a folder');
  throw new Refusal(info.isFIFO() ? 'it is a pipe' : info.isSocket() ? 'it is a socket' : 'it is a device');
}

/** Follows the links of a path, the last of which may point to nothing. */
async function withoutLinks(file: string): Promise<string> {
  let path = file;
  for (let links = 0; links <= MAX_LINKS; links++) {
    const folder = await realpath(dirname(path)).catch((cause) => {
      throw inFolder(dirname(path), cause);
    });
    const at = join(folder, basename(path));
    const target = await readlink(at).catch((error: NodeJS.ErrnoException) => {
      // It is no link; nothing is there.
      if (error.code === 'EINVAL' || error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (target === undefined) return at;
    path = isAbsolute(target) ? target : `${folder}/${target}`;
  }
  throw new Refusal('it is a link that leads back to itself');
}

function inFolder(folder: string, cause: unknown): Refusal {
  const { code } = cause as NodeJS.ErrnoException;
  const why =
    code === 'ENOENT'
      ? 'there is no folder'
      : code === 'ENOTDIR'
        ? 'there is a file in the place of the folder'
        : `${systemReason(cause)} in the folder`;
  return new Refusal(`${why} ${folder}`, { cause });
}

/** A file is replaced where it could have been written to and may be renamed over. */
async function checkReplaceable(path: string, file: BigIntStats, folder: BigIntStats): Promise<void> {
  await new OpenedFile(path, constants.O_WRONLY | constants.O_NONBLOCK).close();
  const user = BigInt(process.geteuid?.() ?? 0);
  if ((folder.mode & STICKY) !== 0n && user !== 0n && user !== file.uid && user !== folder.uid)
    throw new Refusal('it belongs to another user, in a folder where only owners may replace files');
  if (await isMountPoint(path))
    throw new Refusal('it is mounted by itself and cannot be replaced', {
      hint: 'mount its folder, or name another file',
    });
}

/** Of Linux; elsewhere files are not mounted. */
async function isMountPoint(path: string): Promise<boolean> {
  const mounts = await textIfThere('/proc/self/mountinfo');
  const escaped = path.replace(/[ \t\n\\]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return mounts.split('\n').some((line) => line.split(' ')[4] === escaped);
}

async function checkRoom(folder: string, bytes: number): Promise<void> {
  const { bsize, blocks, bfree, bavail } = await statfs(folder, { bigint: true });
  // Some file systems do not count.
  if (blocks === 0n) return;
  const free = Number(bsize * (process.geteuid?.() === 0 ? bfree : bavail));
  if (free >= bytes) return;
  throw new Refusal(
    `ENOSPC: it needs ${formatBytes(bytes)}, and ${formatBytes(free)} are free in the folder ${folder}`,
    { hint: 'make room, or name a file on another disk' },
  );
}

/** Whether a file can be made beside `path` is known for sure only when one was. */
async function probe(path: string): Promise<void> {
  const partial = partialOf(path);
  try {
    await (await create(partial)).close();
  } finally {
    await discard(partial);
  }
}

function partialOf(path: string): string {
  const name = `${basename(path).slice(0, NAME_CHARACTERS)}.${randomBytes(6).toString('hex')}.partial`;
  return join(dirname(path), name);
}

/** What file systems without links to files say. */
const WITHOUT_LINKS: ReadonlySet<unknown> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/** Puts a file where nothing is, for sure: it is there whole or not at all, whenever the process ends. */
async function takeNew(partial: string, path: string): Promise<void> {
  try {
    await link(partial, path);
  } catch (error) {
    if (!WITHOUT_LINKS.has((error as NodeJS.ErrnoException).code)) throw error;
    await takeName(partial, path);
  }
}

/** The same where files have one name: it is taken first. A process that is killed between the two leaves an empty file. */
async function takeName(partial: string, path: string): Promise<void> {
  const made = new OpenedFile(path, 'wx');
  begin(path);
  try {
    await made.close();
    await rename(partial, path);
    finish(path);
  } catch (error) {
    await discard(path);
    throw error;
  }
}

/** Makes a file that is not there. It is unfinished until `discard`. */
async function create(partial: string): Promise<OpenedFile> {
  begin(partial);
  return new OpenedFile(partial, 'wx');
}

/** Removes a file if it is there still. Never fails: an error that led here must be told. */
async function discard(partial: string): Promise<void> {
  await rm(partial, { force: true }).catch(() => {});
  finish(partial);
}

async function keepOwner(made: OpenedFile, { uid, gid, mode }: BigIntStats): Promise<void> {
  const own = made.stat();
  const owner = [Number(uid), Number(gid)] as const;
  // Only root may give files away.
  if (own.uid !== owner[0] || own.gid !== owner[1]) await made.chown(...owner).catch(() => {});
  made.chmod(Number(mode & PERMISSIONS));
}
