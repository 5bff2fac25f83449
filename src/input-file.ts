/** The one place that opens files which users name: a FIFO or a device there is an error, never a wait without end. */
import { constants, type Dirent, fstatSync, type Stats, statSync } from 'node:fs';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { fileError, UsageError } from './errors.ts';

/** Names of standard input. */
const STANDARD_INPUT: ReadonlySet<string> = new Set(['-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0']);

/** True for a name of standard input, unless a file was redirected to it: that one can be read at any place. */
export async function isStream(file: string): Promise<boolean> {
  if (!STANDARD_INPUT.has(file)) return false;
  if (file === '-') return true;
  const info = await stat(file).catch((cause) => {
    throw fileError(file, cause);
  });
  return !info.isFile() && !info.isDirectory();
}

/** What a path leads to: a file or a folder. Nothing is opened. @throws UsageError FILE_*. */
export async function statFile(file: string): Promise<Stats> {
  return statNow(file);
}

function statNow(file: string): Stats {
  if (file === '-') throw noFile(file);
  let info: Stats;
  try {
    info = statSync(file);
  } catch (cause) {
    throw fileError(file, cause);
  }
  if (STANDARD_INPUT.has(file) && !info.isFile() && !info.isDirectory()) throw noFile(file);
  refuseSpecial(file, info);
  return info;
}

function noFile(file: string): UsageError {
  return new UsageError('FILE_UNREADABLE', `${file} is standard input, which is no file`, {
    file,
    hint: 'name a file: standard input gives traces, requests and Criteo rows only',
  });
}

/**
 * Opens a file for reading.
 * @throws UsageError FILE_NOT_FOUND; FILE_UNREADABLE, also for folders, pipes, sockets, devices and standard input.
 */
export async function openFile(file: string): Promise<FileHandle> {
  // A device may act on being opened. At once, and below too: a tensor each is opened, and waiting for a thread takes longer.
  statNow(file);
  // Without waiting, so that a pipe which has taken the file's place since is refused as well.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
  const handle = await open(file, flags).catch((cause) => {
    throw fileError(file, cause);
  });
  try {
    const info = fstatSync(handle.fd);
    refuseSpecial(file, info);
    if (info.isDirectory()) throw fileError(file, { code: 'EISDIR' });
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** What a folder holds, by name. @throws UsageError FILE_*. */
export async function listFolder(folder: string): Promise<Dirent[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause) => {
    throw fileError(folder, cause);
  });
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function refuseSpecial(file: string, info: Stats): void {
  if (info.isFile() || info.isDirectory()) return;
  const what = info.isFIFO() ? 'a pipe' : info.isSocket() ? 'a socket' : 'a device';
  throw new UsageError('FILE_UNREADABLE', `${file} is ${what}, not a file`, {
    file,
    hint: 'name a file; traces, requests and Criteo rows may come by standard input, which is called -',
  });
}
