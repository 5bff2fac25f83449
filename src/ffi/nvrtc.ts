/** Typed binding of NVRTC, the run-time compiler of CUDA. Compiles on libuv's threads; needs neither driver nor GPU. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import koffi from 'koffi';
import { CudaError, DeviceError, type DeviceErrorCode } from '../errors.ts';
import { CStringArray, cString } from './c-string.ts';
import { type LibraryLocation, type OpenLibraryOptions, openLibrary } from './find-libraries.ts';
import { addressOf } from './host-memory.ts';

/** A translation unit. */
export interface NvrtcProgram {
  readonly source: string;
  /** What the log calls the source. */
  readonly fileName: string;
  /** Text of what the source includes, by the name in the #include. Names that are not here are left to the options. */
  readonly headers: ReadonlyMap<string, string>;
  readonly options: readonly string[];
}

export interface NvrtcResult {
  /** Machine code for the architecture that the options name. */
  readonly cubin: Uint8Array;
  /** Warnings, and what ptxas says when it was asked to. */
  readonly log: string;
}

const SUCCESS = 0;
const HINTS: Readonly<Record<number, string>> = {
  1: 'free memory on this machine',
  5: 'this NVRTC does not know the option or the architecture: install a newer one (pip install nvidia-cuda-nvrtc)',
  6: 'the log above says where; kernels/cuda holds the sources',
  7: 'libnvrtc-builtins must lie beside libnvrtc: install the whole NVRTC package',
};
const COMPILATION_FAILED = 6;

function bind({ library, location }: ReturnType<typeof openLibrary>) {
  const missing: string[] = [];
  const bound = (name: string, parameters: string, result = 'int') => {
    try {
      return library.func(`${result} ${name}(${parameters})`);
    } catch {
      missing.push(name);
      return undefined as never;
    }
  };
  const functions = {
    nvrtcGetErrorString: bound('nvrtcGetErrorString', 'int status', 'uintptr_t'),
    nvrtcVersion: bound('nvrtcVersion', 'uintptr_t major, uintptr_t minor'),
    nvrtcGetNumSupportedArchs: bound('nvrtcGetNumSupportedArchs', 'uintptr_t count'),
    nvrtcGetSupportedArchs: bound('nvrtcGetSupportedArchs', 'void *architectures'),
    nvrtcCreateProgram: bound(
      'nvrtcCreateProgram',
      'uintptr_t program, const char *source, const char *name, int header_count, void *headers, void *include_names',
    ),
    nvrtcDestroyProgram: bound('nvrtcDestroyProgram', 'void *program'),
    nvrtcCompileProgram: bound(
      'nvrtcCompileProgram',
      'uintptr_t program, int option_count, uintptr_t options',
    ),
    nvrtcGetCUBINSize: bound('nvrtcGetCUBINSize', 'uintptr_t program, uintptr_t bytes'),
    nvrtcGetCUBIN: bound('nvrtcGetCUBIN', 'uintptr_t program, void *cubin'),
    nvrtcGetProgramLogSize: bound('nvrtcGetProgramLogSize', 'uintptr_t program, uintptr_t bytes'),
    nvrtcGetProgramLog: bound('nvrtcGetProgramLog', 'uintptr_t program, void *log'),
  };
  if (missing.length > 0) {
    throw new DeviceError('NATIVE_LIBRARY_INCOMPATIBLE', `${location.path} lacks ${missing.join(', ')}`, {
      hint: 'Hotrow needs NVRTC 12 or newer: pip install nvidia-cuda-nvrtc',
    });
  }
  return functions;
}

/** From this version on NVRTC keeps what it compiled, and gives no log with what it kept; ours are kept by KernelCache. */
const FIRST_WITH_CACHE = [12, 9] as const;

export class Nvrtc {
  readonly location: LibraryLocation;
  /** `13.0`. */
  readonly version: string;
  /** Tells builds of NVRTC apart whose machine code may differ. */
  readonly identity: string;
  /** Loaded as long as this is referred to. */
  readonly builtins: ReturnType<typeof koffi.load> | undefined;
  readonly #functions: ReturnType<typeof bind>;
  /** Options of every program that change nothing about its machine code. */
  readonly #options: readonly string[];
  readonly #out = new BigUint64Array(new ArrayBuffer(16));
  readonly #outInt = new Int32Array(this.#out.buffer);
  readonly #o = addressOf(this.#out);

  /**
   * `majorVersion`: the driver's; a driver does not load what a newer major version of CUDA made.
   * @throws DeviceError CUDA_LIBRARY_MISSING, NATIVE_LIBRARY_INCOMPATIBLE.
   */
  constructor(options: OpenLibraryOptions = {}) {
    const opened = openLibrary('nvrtc', options);
    this.location = opened.location;
    this.#functions = bind(opened);
    this.#check('nvrtcVersion', this.#functions.nvrtcVersion(this.#o, this.#o + 4n));
    const [major, minor] = this.#outInt as Int32Array & [number, number];
    this.version = `${major}.${minor}`;
    const [firstMajor, firstMinor] = FIRST_WITH_CACHE;
    const caches = major > firstMajor || (major === firstMajor && minor >= firstMinor);
    this.#options = caches ? ['--no-cache'] : [];
    // Patch releases share a version, but not a size.
    this.identity = `nvrtc ${this.version}, ${statSync(this.location.path).size} bytes`;
    // NVRTC asks the linker for its builtins, who does not look beside NVRTC but does know what is loaded.
    const builtins = join(dirname(this.location.path), `libnvrtc-builtins.so.${this.version}`);
    if (existsSync(builtins)) this.builtins = koffi.load(builtins);
  }

  /** Architectures that it compiles for, ascending: `sm_75`, `sm_80`, … */
  architectures(): string[] {
    this.#check('nvrtcGetNumSupportedArchs', this.#functions.nvrtcGetNumSupportedArchs(this.#o));
    const numbers = new Int32Array(new ArrayBuffer(4 * (this.#outInt[0] as number)));
    this.#check('nvrtcGetSupportedArchs', this.#functions.nvrtcGetSupportedArchs(numbers));
    return Array.from(numbers, (number) => `sm_${number}`);
  }

  /** @throws CudaError KERNEL_COMPILE_FAILED with the compiler's log. */
  async compile({ source, fileName, headers, options }: NvrtcProgram): Promise<NvrtcResult> {
    const program = this.#create(source, fileName, headers);
    const optionStrings = new CStringArray([...options, ...this.#options]);
    try {
      const status = await this.#compile(program[0] as bigint, optionStrings);
      const log = this.#log(program[0] as bigint);
      this.#check('nvrtcCompileProgram', status, `${fileName}, options ${options.join(' ')}`, log);
      return { cubin: this.#cubin(program[0] as bigint), log };
    } finally {
      optionStrings.release();
      this.#functions.nvrtcDestroyProgram(program);
    }
  }

  /** An nvrtcProgram, in an array of one. */
  #create(source: string, fileName: string, headers: ReadonlyMap<string, string>): BigUint64Array {
    const texts = new CStringArray([...headers.values()]);
    const names = new CStringArray([...headers.keys()]);
    const status = this.#functions.nvrtcCreateProgram(
      this.#o,
      source,
      fileName,
      headers.size,
      texts.pointers,
      names.pointers,
    );
    texts.release();
    names.release();
    this.#check('nvrtcCreateProgram', status);
    return this.#out.slice(0, 1);
  }

  #compile(program: bigint, options: CStringArray): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#functions.nvrtcCompileProgram.async(
        program,
        options.length,
        addressOf(options.pointers),
        (error: unknown, status: number) => (error ? reject(error) : resolve(status)),
      );
    });
  }

  #log(program: bigint): string {
    this.#check('nvrtcGetProgramLogSize', this.#functions.nvrtcGetProgramLogSize(program, this.#o));
    const log = new Uint8Array(new ArrayBuffer(Number(this.#out[0])));
    if (log.length > 0) this.#check('nvrtcGetProgramLog', this.#functions.nvrtcGetProgramLog(program, log));
    return cString(log);
  }

  #cubin(program: bigint): Uint8Array {
    this.#check('nvrtcGetCUBINSize', this.#functions.nvrtcGetCUBINSize(program, this.#o));
    const cubin = new Uint8Array(new ArrayBuffer(Number(this.#out[0])));
    this.#check('nvrtcGetCUBIN', this.#functions.nvrtcGetCUBIN(program, cubin));
    return cubin;
  }

  #check(call: string, status: number, more?: string, log?: string): void {
    if (status === SUCCESS) return;
    const name = koffi.decode.string(BigInt(this.#functions.nvrtcGetErrorString(status)));
    const code: DeviceErrorCode = status === COMPILATION_FAILED ? 'KERNEL_COMPILE_FAILED' : 'CUDA_FAILED';
    const hint = HINTS[status];
    const message = `${call} failed: ${name} (${status})${more === undefined ? '' : `: ${more}`}`;
    const failure = { call, status: name, contextLost: false };
    const details = { ...(hint === undefined ? {} : { hint }), ...(log === undefined ? {} : { log }) };
    throw new CudaError(code, message, failure, details);
  }
}
