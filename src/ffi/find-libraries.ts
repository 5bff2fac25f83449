/**
 * Finds and opens the shared libraries of CUDA: in the linker's path, the places that CUDA_HOME and CUDA_PATH name, the
 * toolkit's default prefix, and Python environments, where pip puts NVIDIA's packages.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import koffi, { type LibraryHandle } from 'koffi';
import { DeviceError } from '../errors.ts';

export type CudaLibraryName = 'driver' | 'nvrtc' | 'cublasLt';

/** A library that was found. */
export interface LibraryLocation {
  readonly name: CudaLibraryName;
  /** The file, without symbolic links. */
  readonly path: string;
  /** The place that it was found in, for people. */
  readonly foundIn: string;
}

export interface OpenedLibrary {
  readonly location: LibraryLocation;
  readonly library: LibraryHandle;
}

/** Where a search looks. Tests replace it; `systemPlaces` is the real one. */
export interface SearchPlaces {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Whether the linker may search by itself (LD_LIBRARY_PATH, /etc/ld.so.conf). */
  readonly linker: boolean;
  /** The folder that holds `cuda` and `cuda-12.4`. */
  readonly toolkitPrefix: string;
  /** Folders of the driver that the linker may not know. */
  readonly driverFolders: readonly string[];
  /** The site-packages folders of the `python3` on the PATH; asked for last, because it starts Python. */
  pythonSitePackages(): readonly string[];
}

export interface OpenLibraryOptions {
  /** This file and no other. */
  readonly path?: string;
  /** Newest major version that will do; older ones, down to 12, are tried after it. */
  readonly majorVersion?: number;
  readonly places?: SearchPlaces;
}

const OLDEST_MAJOR = 12;
const NEWEST_MAJOR = 13;

interface LibraryFacts {
  /** File names, the preferred one first. */
  fileNames(newestMajor: number): readonly string[];
  readonly title: string;
  readonly hint: string;
}

const versioned = (stem: string) => (newestMajor: number) =>
  Array.from({ length: newestMajor - OLDEST_MAJOR + 1 }, (_, age) => `${stem}.so.${newestMajor - age}`);

const LIBRARIES: Readonly<Record<CudaLibraryName, LibraryFacts>> = {
  driver: {
    fileNames: () => ['libcuda.so.1'],
    title: 'the NVIDIA driver',
    hint: 'install an NVIDIA driver for CUDA 12 or newer (Debian: nvidia-driver; Ubuntu: nvidia-driver-580-server); in a container, run it with the NVIDIA container toolkit (--gpus all)',
  },
  nvrtc: {
    fileNames: versioned('libnvrtc'),
    title: 'NVRTC, the run-time compiler of CUDA,',
    hint: 'install it with `pip install nvidia-cuda-nvrtc` (nvidia-cuda-nvrtc-cu12 for drivers of CUDA 12), or with the CUDA toolkit (cuda-nvrtc-13-0), and set CUDA_HOME if it is in an unusual place',
  },
  cublasLt: {
    fileNames: versioned('libcublasLt'),
    title: 'cuBLASLt, the matrix products of CUDA,',
    hint: 'install it with `pip install nvidia-cublas` (nvidia-cublas-cu12 for drivers of CUDA 12), or with the CUDA toolkit (libcublas-13-0), and set CUDA_HOME if it is in an unusual place',
  },
};

export const systemPlaces: SearchPlaces = {
  environment: process.env,
  linker: true,
  toolkitPrefix: '/usr/local',
  driverFolders: [
    `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`,
    '/usr/lib64',
    '/usr/local/nvidia/lib64',
    '/usr/lib/wsl/lib',
  ],
  pythonSitePackages: askPython,
};

/**
 * Opens a library from the first place that has it.
 * @throws DeviceError CUDA_LIBRARY_MISSING, with every place that was tried and what to install.
 */
export function openLibrary(name: CudaLibraryName, options: OpenLibraryOptions = {}): OpenedLibrary {
  const { title, hint } = LIBRARIES[name];
  const tried: string[] = [];
  for (const { path, place } of candidates(name, options)) {
    let library: LibraryHandle;
    try {
      library = koffi.load(path);
    } catch (cause) {
      tried.push(
        `${path} (${place}): ${(cause as Error).message.replace('Failed to load shared library: ', '')}`,
      );
      continue;
    }
    return { library, location: { name, path: loadedPath(path), foundIn: place } };
  }
  throw new DeviceError('CUDA_LIBRARY_MISSING', `${title} was not found; tried:`, {
    hint,
    log: tried.map((one) => `  ${one}`).join('\n'),
  });
}

interface Candidate {
  readonly path: string;
  readonly place: string;
}

/** What to try, in order; a bare file name is the linker's to find. Places without the file are left out. */
function* candidates(name: CudaLibraryName, options: OpenLibraryOptions): Generator<Candidate> {
  const { path, majorVersion = NEWEST_MAJOR, places = systemPlaces } = options;
  if (path !== undefined) return yield { path, place: 'the path given' };
  const fileNames = LIBRARIES[name].fileNames(Math.max(OLDEST_MAJOR, majorVersion));
  if (places.linker) for (const file of fileNames) yield { path: file, place: "the linker's path" };
  const folders = name === 'driver' ? driverFolders(places) : toolkitFolders(places);
  for (const { path: folder, place } of folders) {
    for (const file of fileNames) {
      const candidate = join(folder, file);
      if (existsSync(candidate)) yield { path: candidate, place };
    }
  }
}

/** A toolkit holds only a stub of the driver, so none of its folders is here. */
function* driverFolders({ driverFolders: folders }: SearchPlaces): Generator<Candidate> {
  for (const path of folders) yield { path, place: path };
}

function* toolkitFolders(places: SearchPlaces): Generator<Candidate> {
  const { environment, toolkitPrefix } = places;
  for (const variable of ['CUDA_HOME', 'CUDA_PATH']) {
    const root = environment[variable];
    if (root) for (const path of libraryFolders(root)) yield { path, place: variable };
  }
  const toolkits = [
    'cuda',
    ...list(toolkitPrefix)
      .filter((name) => /^cuda-\d/.test(name))
      .sort((a, b) => b.localeCompare(a, undefined, { numeric: true })),
  ];
  for (const toolkit of toolkits) {
    const root = join(toolkitPrefix, toolkit);
    for (const path of libraryFolders(root)) yield { path, place: root };
  }
  for (const variable of ['VIRTUAL_ENV', 'CONDA_PREFIX']) {
    const root = environment[variable];
    if (!root) continue;
    yield { path: join(root, 'lib'), place: variable };
    for (const version of list(join(root, 'lib')).filter((name) => name.startsWith('python'))) {
      yield* nvidiaFolders(join(root, 'lib', version, 'site-packages'), variable);
    }
  }
  for (const folder of places.pythonSitePackages()) yield* nvidiaFolders(folder, 'python3 on the PATH');
}

function libraryFolders(root: string): string[] {
  const target = process.arch === 'arm64' ? 'sbsa-linux' : 'x86_64-linux';
  return [join(root, 'lib64'), join(root, 'targets', target, 'lib'), join(root, 'lib')];
}

/** pip's packages lie in nvidia/cuda_nvrtc/lib and the like (CUDA 12), or all in nvidia/cu13/lib (CUDA 13). */
function* nvidiaFolders(sitePackages: string, place: string): Generator<Candidate> {
  const root = join(sitePackages, 'nvidia');
  for (const part of list(root)) yield { path: join(root, part, 'lib'), place };
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** Only Python knows where a shim, a virtual environment or a distribution keeps its packages. */
function askPython(): readonly string[] {
  const program = 'import sys; print("\\n".join(p for p in sys.path if p.endswith("-packages")))';
  const { stdout } = spawnSync('python3', ['-I', '-c', program], { encoding: 'utf8', timeout: 5000 });
  return (stdout ?? '').split('\n').filter((line) => line !== '');
}

/** The file behind a path or a name that was just loaded. */
function loadedPath(path: string): string {
  if (path.includes('/')) return realpathSync(path);
  try {
    const mapped = readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .flatMap((line) => (line.includes('/') ? [line.slice(line.indexOf('/'))] : []));
    const begins = (start: string) => mapped.find((file) => basename(file).startsWith(start));
    // libcuda.so.1 is a link to libcuda.so.580.159.04.
    return begins(path) ?? begins(path.replace(/\.\d+$/, '.')) ?? path;
  } catch {
    return path;
  }
}
