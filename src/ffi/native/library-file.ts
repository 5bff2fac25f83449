/**
 * A built library on disk. It ends with the checksum of its bytes, which loaders do not read: one that was cut or damaged would
 * end the process when it is loaded, so that it is looked at before. (Not on macOS, where that would break its signature.)
 */
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { DeviceError } from '../../errors.ts';
import { elfArchitecture, type Target } from './target.ts';

const CHECKSUM_BYTES = 32;

/** Copies a library that was built to its place, whole. What is there is replaced. */
export function keepLibrary(built: string, library: string, { platform }: Target): void {
  const aside = `${library}.${randomBytes(8).toString('hex')}`;
  try {
    copyFileSync(built, aside);
    if (platform === 'linux') writeFileSync(aside, sha256(readFileSync(built)), { flag: 'a' });
    renameSync(aside, library);
  } finally {
    rmSync(aside, { force: true });
  }
}

/**
 * Looks at a library before it is loaded. False: there is none.
 * @throws DeviceError NATIVE_LIBRARY_INCOMPATIBLE for one that is damaged, or was built for another machine.
 */
export function checkLibrary(library: string, { platform, arch }: Target): boolean {
  const bytes = read(library);
  if (bytes === undefined) return false;
  if (platform !== 'linux') return true;
  const end = Math.max(0, bytes.length - CHECKSUM_BYTES);
  if (!sha256(bytes.subarray(0, end)).equals(bytes.subarray(end)))
    refuseLibrary(library, 'is cut or damaged: its checksum differs');
  const built = elfArchitecture(bytes);
  if (built !== arch)
    refuseLibrary(library, `was built for ${built ?? 'no Linux'}, and this machine is ${arch}`);
  return true;
}

/** @throws DeviceError NATIVE_LIBRARY_INCOMPATIBLE. */
export function refuseLibrary(library: string, why: string, cause?: unknown): never {
  throw new DeviceError('NATIVE_LIBRARY_INCOMPATIBLE', `${library} ${why}`, { file: library, cause });
}

function read(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    return refuseLibrary(path, `cannot be read: ${(cause as Error).message}`, cause);
  }
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}
