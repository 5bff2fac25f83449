/** The C compiler that builds the CPU kernels, and how to come by one. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { DeviceError } from '../../errors.ts';
import type { Target } from './target.ts';

/** Commands that install a C compiler, by the names of distributions in /etc/os-release. */
const INSTALL: readonly (readonly [RegExp, string])[] = [
  [/\b(?:debian|ubuntu)\b/, 'apt-get install gcc libc6-dev'],
  [/\b(?:fedora|rhel|centos|amzn)\b/, 'dnf install gcc glibc-devel'],
  [/\balpine\b/, 'apk add gcc musl-dev'],
  [/\barch\b/, 'pacman -S gcc'],
  [/\b(?:suse|opensuse)\b/, 'zypper install gcc glibc-devel'],
];

const USUAL: readonly (readonly string[])[] = [['cc'], ['gcc'], ['clang']];

/** Compilers for another architecture, as distributions name them. */
const CROSS: Readonly<Record<string, string>> = {
  x64: 'x86_64-linux-gnu-gcc',
  arm64: 'aarch64-linux-gnu-gcc',
};

/** The command that installs a C compiler here, as far as that is known. */
export function installCommand(
  platform: NodeJS.Platform = process.platform,
  release: () => string = osRelease,
): string {
  if (platform === 'darwin') return 'xcode-select --install';
  const names = [...release().matchAll(/^ID(?:_LIKE)?=(.*)$/gm)].map(([, value]) => value).join(' ');
  const known = INSTALL.find(([distribution]) => distribution.test(names));
  return known?.[1] ?? "install your distribution's package of gcc and its C library's headers";
}

function osRelease(): string {
  try {
    return readFileSync('/etc/os-release', 'utf8');
  } catch {
    return '';
  }
}

function runs(command: readonly string[]): boolean {
  const [program = '', ...args] = command;
  return spawnSync(program, [...args, '--version'], { stdio: 'ignore' }).status === 0;
}

/**
 * A compiler for this machine, as words: the one that CC names, by a path, with spaces too, or as a command with arguments
 * (`ccache gcc`); without CC one of the usual names.
 * @throws DeviceError NATIVE_LIBRARY_MISSING.
 */
export function findCompiler(environment: NodeJS.ProcessEnv = process.env): readonly string[] {
  const named = environment.CC?.trim() ?? '';
  const candidates = named === '' ? USUAL : [[named], named.split(/\s+/)];
  const found = candidates.find(runs);
  if (found !== undefined) return found;
  const tried = named === '' ? `tried ${USUAL.join(', ')}` : `CC names \`${named}\`, which does not run`;
  const message = `the CPU kernels have to be compiled, and there is no C compiler (${tried})`;
  throw new DeviceError('NATIVE_LIBRARY_MISSING', message, {
    hint: `\`${installCommand()}\`, or name a compiler in the environment variable CC`,
  });
}

/** A compiler on this machine for `target`; undefined: there is none. */
export function crossCompiler(target: Target): readonly string[] | undefined {
  const command = target.platform === 'linux' ? CROSS[target.arch] : undefined;
  return command !== undefined && runs([command]) ? [command] : undefined;
}
