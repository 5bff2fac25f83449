/** What machines the library of the CPU kernels is built for. */
import { DeviceError } from '../../errors.ts';

export interface Target {
  readonly platform: 'linux' | 'darwin';
  /** As Node names it. */
  readonly arch: string;
}

/** Machines of ELF headers, by Node's names of architectures. */
const ELF_MACHINES: Readonly<Record<number, string>> = {
  3: 'ia32',
  8: 'mips',
  21: 'ppc64',
  22: 's390x',
  40: 'arm',
  62: 'x64',
  183: 'arm64',
  243: 'riscv64',
  258: 'loong64',
};

/** This machine. @throws DeviceError NATIVE_LIBRARY_MISSING where the kernels cannot be built at all. */
export function thisTarget(): Target {
  const { platform, arch } = process;
  if (platform === 'linux' || platform === 'darwin') return { platform, arch };
  throw new DeviceError(
    'NATIVE_LIBRARY_MISSING',
    `Hotrow does not run on ${platform}: its kernels need POSIX threads and mmap`,
    {
      hint: platform === 'win32' ? 'run it in WSL 2 (`wsl --install`)' : 'run it on Linux or macOS',
    },
  );
}

export function targetName({ platform, arch }: Target): string {
  return `${platform}-${arch}`;
}

export function libraryName({ platform }: Target): string {
  return platform === 'darwin' ? 'libhotrow_cpu.dylib' : 'libhotrow_cpu.so';
}

/** The architecture of an ELF file, as Node names it; undefined: it is no ELF file. */
export function elfArchitecture(bytes: Uint8Array): string | undefined {
  const isElf =
    bytes.length >= 20 && bytes[0] === 0x7f && String.fromCharCode(...bytes.subarray(1, 4)) === 'ELF';
  if (!isElf) return undefined;
  const littleEndian = bytes[5] === 1;
  const machine = new DataView(bytes.buffer, bytes.byteOffset).getUint16(18, littleEndian);
  return ELF_MACHINES[machine] ?? `machine ${machine}`;
}
