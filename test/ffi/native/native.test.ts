/** How the library of the CPU kernels is found, checked and built, piece by piece. The package's own tests do it as users do. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { DeviceError } from '../../../src/errors.ts';
import { buildLibrary } from '../../../src/ffi/native/build-library.ts';
import { crossCompiler, findCompiler, installCommand } from '../../../src/ffi/native/compiler.ts';
import { checkLibrary, keepLibrary } from '../../../src/ffi/native/library-file.ts';
import { elfArchitecture, libraryName, targetName, thisTarget } from '../../../src/ffi/native/target.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow native '));
after(() => rmSync(folder, { recursive: true, force: true }));
const LINUX = { platform: 'linux', arch: 'x64' } as const;

/** The first bytes of an ELF file for a machine, and some more. */
function elf(machine: number, { bigEndian = false } = {}): Uint8Array {
  const bytes = new Uint8Array(4096);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, bigEndian ? 2 : 1]);
  new DataView(bytes.buffer).setUint16(18, machine, !bigEndian);
  return bytes;
}

function program(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, `#!/bin/sh\n${text}\n`);
  chmodSync(file, 0o755);
  return file;
}

describe('a library on disk', () => {
  const built = join(folder, 'built.so');
  const library = join(folder, 'kept.so');
  const keep = (bytes: Uint8Array) => {
    writeFileSync(built, bytes);
    keepLibrary(built, library, LINUX);
  };
  const refused = (message: RegExp) =>
    assert.throws(
      () => checkLibrary(library, LINUX),
      (error) => {
        assert.ok(error instanceof DeviceError);
        assert.equal(error.code, 'NATIVE_LIBRARY_INCOMPATIBLE');
        assert.match(error.message, message);
        assert.equal(error.details.file, library);
        return true;
      },
    );

  test('one that was kept is found, whole, and nothing is left beside it', () => {
    assert.equal(checkLibrary(join(folder, 'none.so'), LINUX), false);
    const bytes = elf(62);
    keep(bytes);
    assert.equal(checkLibrary(library, LINUX), true);
    assert.deepEqual(new Uint8Array(readFileSync(library)).subarray(0, bytes.length), bytes);
    keep(bytes);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith('kept')),
      ['kept.so'],
    );
  });

  test('one that is cut anywhere, or has a byte changed, is refused', () => {
    const { length } = elf(62);
    for (const end of [length + 31, length, length - 1, 100, 20, 1, 0]) {
      keep(elf(62));
      truncateSync(library, end);
      refused(/is cut or damaged/);
    }
    for (const at of [0, 18, 2000, length - 1, length, length + 31]) {
      keep(elf(62));
      const bytes = readFileSync(library);
      bytes[at] = (bytes[at] as number) ^ 1;
      writeFileSync(library, bytes);
      refused(/is cut or damaged/);
    }
  });

  test('one of another machine says of which', () => {
    keep(elf(183));
    refused(/was built for arm64, and this machine is x64/);
    keep(elf(12345));
    refused(/was built for machine 12345/);
    keep(new Uint8Array(4096));
    refused(/was built for no Linux/);
  });

  test('one that cannot be read is refused, not taken for missing', () => {
    assert.throws(() => checkLibrary(folder, LINUX), { code: 'NATIVE_LIBRARY_INCOMPATIBLE' });
  });
});

test('architectures of ELF files, of either byte order', () => {
  assert.equal(elfArchitecture(elf(62)), 'x64');
  assert.equal(elfArchitecture(elf(183)), 'arm64');
  assert.equal(elfArchitecture(elf(22, { bigEndian: true })), 's390x');
  assert.equal(elfArchitecture(elf(62).subarray(0, 19)), undefined);
  assert.equal(elfArchitecture(new Uint8Array(100)), undefined);
  // A view into a larger buffer.
  const within = new Uint8Array(5000);
  within.set(elf(183), 7);
  assert.equal(elfArchitecture(within.subarray(7)), 'arm64');
});

test('names of libraries and machines', () => {
  assert.equal(libraryName(LINUX), 'libhotrow_cpu.so');
  assert.equal(libraryName({ platform: 'darwin', arch: 'arm64' }), 'libhotrow_cpu.dylib');
  assert.equal(targetName(LINUX), 'linux-x64');
  assert.equal(thisTarget().arch, process.arch);
});

test('the command that installs a compiler is that of the distribution', () => {
  const release = (text: string) => installCommand('linux', () => text);
  assert.equal(release('NAME="Debian"\nID=debian\n'), 'apt-get install gcc libc6-dev');
  assert.equal(release('ID=linuxmint\nID_LIKE="ubuntu debian"\n'), 'apt-get install gcc libc6-dev');
  assert.equal(release('ID="rhel"\nID_LIKE="fedora"\n'), 'dnf install gcc glibc-devel');
  assert.equal(release('ID=alpine\n'), 'apk add gcc musl-dev');
  assert.equal(release('ID=manjaro\nID_LIKE=arch\n'), 'pacman -S gcc');
  assert.equal(release('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n'), 'zypper install gcc glibc-devel');
  assert.match(release('NAME=debian-lookalike\n'), /distribution's package of gcc/);
  assert.match(release(''), /distribution's package of gcc/);
  assert.equal(
    installCommand('darwin', () => ''),
    'xcode-select --install',
  );
});

describe('the compiler', () => {
  test('is the one that CC names: a path with spaces, or a command with arguments', () => {
    const own = program('my compiler', 'exit 0');
    assert.deepEqual(findCompiler({ CC: own }), [own]);
    program('wrapper', '[ "$1" = inner ] && [ "$2" = --version ]');
    // The folder's name has a space: a command with arguments is found by PATH.
    const before = process.env.PATH;
    process.env.PATH = `${folder}:${before}`;
    try {
      assert.deepEqual(findCompiler({ CC: 'wrapper inner' }), ['wrapper', 'inner']);
    } finally {
      process.env.PATH = before;
    }
  });

  test('that CC names and that does not run is told, and no other is taken', () => {
    const message = /CC names `\/none\/cc -m64`, which does not run/;
    assert.throws(() => findCompiler({ CC: '/none/cc -m64' }), { code: 'NATIVE_LIBRARY_MISSING', message });
  });

  test('for another machine is the one with its name', () => {
    assert.equal(crossCompiler({ platform: 'linux', arch: 'sparc' }), undefined);
    assert.equal(crossCompiler({ platform: 'darwin', arch: 'arm64' }), undefined);
  });
});

describe('a build', () => {
  const sources = join(folder, 'sources');
  const build = (compiler: string, library = join(folder, 'made', 'own.so')) =>
    buildLibrary({ sources, library, target: LINUX, compiler: [compiler] });
  const own = join(folder, 'temporary');

  test('that fails says what the compiler said, and leaves nothing', async () => {
    mkdirSync(own);
    const { TMPDIR } = process.env;
    process.env.TMPDIR = own;
    after(() => {
      if (TMPDIR === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = TMPDIR;
    });
    const failing = program('failing', 'echo "x.c:1: error: no such thing" >&2; exit 3');
    mkdirSync(sources);
    writeFileSync(join(sources, 'one.c'), '');
    await assert.rejects(build(failing), (error) => {
      assert.ok(error instanceof DeviceError);
      assert.equal(error.code, 'NATIVE_LIBRARY_MISSING');
      assert.match(error.message, /failed with exit code 3\nx\.c:1: error: no such thing/);
      return true;
    });
    await assert.rejects(build('/none/cc'), { code: 'NATIVE_LIBRARY_MISSING', message: /did not start/ });
    assert.deepEqual(readdirSync(own), []);
    assert.deepEqual(readdirSync(join(folder, 'made')), []);
  });

  test('into a folder that cannot be written fails before any work', async () => {
    const counting = program('counting', `echo x >>"${join(folder, 'calls')}"`);
    writeFileSync(join(folder, 'a file'), '');
    await assert.rejects(build(counting, join(folder, 'a file', 'own.so')), (error) => {
      assert.equal((error as DeviceError).code, 'FILE_UNWRITABLE');
      assert.match((error as DeviceError).hint, /XDG_CACHE_HOME/);
      return true;
    });
    assert.equal(readdirSync(folder).includes('calls'), false);
  });
});
