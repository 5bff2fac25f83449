/** The one place that opens files which users name: a FIFO or a device there is an error, never a wait without end. */
import { constants, type Dirent, type Stats, statSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { fileError, UsageError } from './errors.ts';
import { OpenedFile } from './opened-file.ts';

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

/** A file that is open for reading. Reads throw UsageError FILE_UNREADABLE, which names it. */
export class InputFile extends OpenedFile {
  readonly path: string;

  /** @throws errors of the system. */
  constructor(path: string) {
    // Without waiting, so that a pipe which has taken the file's place since is refused as well.
    super(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    this.path = path;
  }

  override read(into: Uint8Array, offset: number, length: number, position: number | null): Promise<number> {
    return super.read(into, offset, length, position).catch((cause) => this.#failed(cause));
  }

  override readAll(): Promise<Buffer> {
    return super.readAll().catch((cause) => this.#failed(cause));
  }

  #failed(cause: unknown): never {
    throw fileError(this.path, cause);
  }
}

/**
 * Opens a file for reading.
 * @throws UsageError FILE_NOT_FOUND; FILE_UNREADABLE, also for folders, pipes, sockets, devices and standard input.
 */
export async function openFile(file: string): Promise<InputFile> {
  // A device may act on being opened.
  statNow(file);
  const opened = openNow(file);
  try {
    const info = opened.stat();
    refuseSpecial(file, info);
    if (info.isDirectory()) throw fileError(file, { code: 'EISDIR' });
    return opened;
  } catch (error) {
    await opened.close();
    throw error;
  }
}

function openNow(file: string): InputFile {
  try {
    return new InputFile(file);
  } catch (cause) {
    throw fileError(file, cause);
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
