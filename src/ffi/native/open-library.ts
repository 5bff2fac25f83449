/**
 * The library of the CPU kernels for this machine: the one that came with the package, or that `npm run build` made; else one that
 * was built here on an earlier use; else it is built now, into the user's cache.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { DeviceError } from '../../errors.ts';
import { packageFile } from '../../package-file.ts';
import { cacheFolder } from '../../user-folders.ts';
import { installCommand } from './compiler.ts';
import { checkLibrary, refuseLibrary } from './library-file.ts';
import { libraryName, type Target, targetName, thisTarget } from './target.ts';

export interface OpenLibrary {
  readonly path: string;
  readonly functions: ReturnType<typeof koffi.load>;
}

/** What a library that was built for an older or newer Hotrow says. */
type AbiOf = (functions: OpenLibrary['functions']) => number;

export interface Places {
  readonly target: Target;
  /** Of the package: `<platform>-<arch>/<library>`. */
  readonly shipped: string;
  /** kernels/cpu. */
  readonly sources: string;
  /** A folder for each version of the sources. */
  readonly cache: string;
  /** What builds a library, as a program of Node. */
  readonly builder: string;
}

export function usualPlaces(): Places {
  return {
    target: thisTarget(),
    shipped: packageFile('dist/native'),
    sources: packageFile('kernels/cpu'),
    cache: cacheFolder(['native']),
    builder: packageFile('dist/build-library.js'),
  };
}

/**
 * Opens the library.
 * @throws DeviceError NATIVE_LIBRARY_MISSING where there is none and none can be built; NATIVE_LIBRARY_INCOMPATIBLE for the one that
 *   HOTROW_CPU_LIBRARY names, which is for tests.
 */
export function openLibrary(abiVersion: number, abiOf: AbiOf, places = usualPlaces()): OpenLibrary {
  const named = process.env.HOTROW_CPU_LIBRARY;
  if (named !== undefined && named !== '') return load(named, abiVersion, abiOf);
  const { target } = places;
  const name = join(targetName(target), libraryName(target));
  const refused: DeviceError[] = [];
  const openIfThere = (path: string): OpenLibrary | undefined => {
    try {
      return checkLibrary(path, target) ? load(path, abiVersion, abiOf) : undefined;
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      refused.push(error);
      return undefined;
    }
  };
  const shipped = openIfThere(join(places.shipped, name));
  if (shipped !== undefined) return shipped;
  const path = join(places.cache, sourcesHash(places.sources), name);
  const built = openIfThere(path);
  if (built !== undefined) return built;
  for (const { message } of refused)
    process.emitWarning(`${message}; the CPU kernels are built anew`, 'HotrowWarning');
  build(places, path, refused);
  return load(path, abiVersion, abiOf);
}

function load(path: string, abiVersion: number, abiOf: AbiOf): OpenLibrary {
  let functions: OpenLibrary['functions'];
  try {
    functions = koffi.load(path);
  } catch (cause) {
    return refuseLibrary(path, `cannot be loaded: ${(cause as Error).message}`, cause);
  }
  const version = abiOf(functions);
  if (version !== abiVersion)
    refuseLibrary(path, `has ABI version ${version}, and this Hotrow needs ${abiVersion}`);
  return { path, functions };
}

/** What a library is built from, as 16 hex digits. */
function sourcesHash(folder: string): string {
  const hash = createHash('sha256');
  for (const file of readdirSync(folder).sort())
    if (/\.[ch]$/.test(file)) hash.update(`${file}\0`).update(readFileSync(join(folder, file)));
  return hash.digest('hex').slice(0, 16);
}

/** Builds the library in a process of its own, whose progress goes to standard error. */
function build({ builder, sources }: Places, library: string, refused: readonly DeviceError[]): void {
  const { status, signal, stdout, error } = spawnSync(process.execPath, [builder, sources, library], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status === 0) return;
  const told = answerOf(stdout ?? '');
  const before = refused.map(({ message }) => `${message}. `).join('');
  const how = error?.message ?? (signal === null ? `exit code ${status}` : signal);
  throw new DeviceError(
    'NATIVE_LIBRARY_MISSING',
    `${before}${told.message ?? `the CPU kernels were not built: ${how}`}`,
    {
      hint: told.hint ?? `they are built by a C compiler: \`${installCommand()}\``,
      cause: refused[0],
    },
  );
}

function answerOf(stdout: string): { readonly message?: string; readonly hint?: string } {
  try {
    return JSON.parse(stdout) as ReturnType<typeof answerOf>;
  } catch {
    return {};
  }
}
