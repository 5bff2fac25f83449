/** Files that are written for a user: what is refused, and what is there after it went well or not. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import {
  chmod,
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HotrowError, ModelError } from '../../src/errors.ts';
import { checkOutputFile, type OutputOptions, writeOutputFile } from '../../src/output-file.ts';
import { printable } from '../../src/text.ts';
import { bundledProgram } from '../support/bundled-program.ts';

let folder = '';
const at = (name: string) => join(folder, name);
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-output-'));
});
beforeEach(async () => {
  await rm(folder, { recursive: true });
  await mkdir(folder);
});
after(() => rm(folder, { recursive: true, force: true }));

const isRoot = process.geteuid?.() === 0;

/** Both the check and the writing refuse `file`; what is in the folder stays as it was. */
async function refuses(file: string, why: RegExp, options: OutputOptions = {}): Promise<void> {
  const before_ = await readdir(folder);
  const expected = (error: unknown) => {
    assert.ok(error instanceof HotrowError);
    assert.equal(error.code, 'FILE_UNWRITABLE');
    assert.equal(error.details.file, file);
    assert.ok(error.message.startsWith(`cannot write ${printable(file, 2000)}: `), error.message);
    assert.match(error.message, why);
    assert.doesNotMatch(error.message, /\.partial/);
    return true;
  };
  await assert.rejects(checkOutputFile(file, options), expected);
  await assert.rejects(writeOutputFile(file, 'new', options), expected);
  assert.deepEqual(await readdir(folder), before_);
}

describe('places', () => {
  test('folders', async () => {
    await mkdir(at('folder'));
    await symlink(at('folder'), at('link'));
    for (const name of ['folder', 'folder/', 'link', 'folder/.', '.', 'folder/..'])
      await refuses(`${folder}/${name}`, /a folder/);
    await refuses(`${folder}/new/`, /it names a folder/);
  });

  test('a missing folder, and a file in its place', async () => {
    await writeFile(at('file'), '');
    await refuses(at('none/x'), /there is no folder .*none/);
    await refuses(at('file/x'), /ENOTDIR|in the place of the folder/);
    await refuses('', /its name is empty/);
  });

  test('pipes, sockets and devices, also over links', async () => {
    execFileSync('mkfifo', [at('pipe')]);
    await symlink(at('pipe'), at('to-pipe'));
    await symlink('/dev/null', at('to-null'));
    await refuses(at('pipe'), /it is a pipe/);
    await refuses(at('to-pipe'), /it is a pipe/);
    for (const device of ['/dev/null', '/dev/full', at('to-null')]) await refuses(device, /it is a device/);
    const server = createServer();
    await new Promise<void>((listening) => server.listen(at('socket'), listening));
    await refuses(at('socket'), /it is a socket/);
    server.close();
  });

  test('links that lead back to themselves, and names that are too long', async () => {
    await symlink(at('b'), at('a'));
    await symlink(at('a'), at('b'));
    await refuses(at('a'), /ELOOP|leads back/);
    await refuses(at('x'.repeat(256)), /ENAMETOOLONG/);
  });

  test('a file that may not be written, and a folder that may not', {
    skip: isRoot && 'run by root',
  }, async () => {
    await writeFile(at('own'), 'old');
    await chmod(at('own'), 0o444);
    await refuses(at('own'), /EACCES/);
    await mkdir(at('closed'));
    await chmod(at('closed'), 0o555);
    await refuses(at('closed/x'), /EACCES.* in the folder .*closed/);
  });

  test('no room for what is known to come', async () => {
    const never = async function* () {
      yield await Promise.reject(new Error('it was begun'));
    };
    const refused = {
      code: 'FILE_UNWRITABLE',
      message: /x: ENOSPC: it needs .* TiB, and .* free in the folder/,
    };
    await assert.rejects(checkOutputFile(at('x'), { bytes: 2 ** 80 }), refused);
    await assert.rejects(writeOutputFile(at('x'), never, { bytes: 2 ** 80 }), refused);
  });

  test('a file that is there, where a new one is wanted', async () => {
    await writeFile(at('x'), 'old');
    await refuses(at('x'), /it is there already/, { isNew: true });
    assert.equal(await readFile(at('x'), 'utf8'), 'old');
    await writeOutputFile(at('y'), 'new', { isNew: true });
    assert.equal(await readFile(at('y'), 'utf8'), 'new');
  });

  test('a folder that can never be made', async () => {
    await refuses('/proc/none/x', /ENOENT|no folder/, { makesFolder: true });
    await writeFile(at('file'), '');
    await refuses(at('file/folder/x'), /ENOTDIR|EEXIST|in the place of the folder/, { makesFolder: true });
    await writeOutputFile(at('a/b/c/x'), 'new', { makesFolder: true });
    assert.equal(await readFile(at('a/b/c/x'), 'utf8'), 'new');
  });

  test('a full disk, and a disk that cannot be written, also by root', async (t) => {
    const disk = at('disk');
    await mkdir(disk);
    const mount = (...args: string[]) => execFileSync('mount', args, { stdio: 'ignore' });
    try {
      mount('-t', 'tmpfs', '-o', 'size=64k', 'none', disk);
    } catch {
      return t.skip('nothing can be mounted here');
    }
    try {
      const much = async function* () {
        for (let i = 0; i < 100; i++) yield new Uint8Array(4096);
      };
      await writeFile(join(disk, 'x'), 'old');
      await assert.rejects(writeOutputFile(join(disk, 'x'), much), {
        code: 'FILE_UNWRITABLE',
        message: /x: ENOSPC: no space left on device$/,
      });
      assert.deepEqual(await readdir(disk), ['x']);
      assert.equal(await readFile(join(disk, 'x'), 'utf8'), 'old');
      mount('-o', 'remount,ro', disk);
      await refuses(join(disk, 'x'), /EROFS: read-only file system/);
      await refuses(join(disk, 'y'), /EROFS: read-only file system in the folder/);
    } finally {
      execFileSync('umount', [disk]);
    }
  });

  test('a file that is mounted by itself', async (t) => {
    await writeFile(at('a b'), 'old');
    await writeFile(at('other'), 'other');
    try {
      execFileSync('mount', ['--bind', at('other'), at('a b')], { stdio: 'ignore' });
    } catch {
      return t.skip('nothing can be mounted here');
    }
    try {
      await refuses(at('a b'), /it is mounted by itself/);
    } finally {
      execFileSync('umount', [at('a b')]);
    }
  });
});

describe('what is written', () => {
  test('the longest name', async () => {
    for (const name of ['x'.repeat(255), 'é'.repeat(127), '😀'.repeat(63)]) {
      await writeOutputFile(at(name), 'new');
      assert.equal(await readFile(at(name), 'utf8'), 'new');
    }
    assert.equal((await readdir(folder)).length, 3);
  });

  test('over links: what they point to, also where nothing is yet', async () => {
    await mkdir(at('there'));
    await writeFile(at('there/old'), 'old');
    await symlink('there', at('folder'));
    await symlink('folder/old', at('a'));
    await symlink('../there/new', at('there/b'));
    for (const [name, real] of [
      ['a', 'there/old'],
      ['there/b', 'there/new'],
    ] as const) {
      const target = await readlink(at(name));
      await writeOutputFile(at(name), name);
      assert.equal(await readlink(at(name)), target);
      assert.equal(await readFile(at(real), 'utf8'), name);
    }
  });

  test('permissions of what was there stay; another hard link keeps the old contents', async () => {
    await writeFile(at('x'), 'old');
    await chmod(at('x'), 0o640);
    await link(at('x'), at('y'));
    await writeOutputFile(at('x'), 'new');
    assert.equal((await stat(at('x'))).mode & 0o777, 0o640);
    assert.equal(await readFile(at('y'), 'utf8'), 'old');
  });

  test('an error of what makes the contents is told as it is, and leaves what was there', async () => {
    await writeFile(at('x'), 'old');
    const wrong = new ModelError('VALUE_NOT_FINITE', 'row 3 has none');
    const contents = async function* () {
      yield new Uint8Array(10);
      throw wrong;
    };
    await assert.rejects(writeOutputFile(at('x'), contents), (error) => error === wrong);
    assert.deepEqual(await readdir(folder), ['x']);
    assert.equal(await readFile(at('x'), 'utf8'), 'old');
  });

  test('a clean-up that fails does not hide the cause', async () => {
    await mkdir(at('gone'));
    const contents = async function* () {
      await rm(at('gone'), { recursive: true });
      await writeFile(at('gone'), 'a file in the place of the folder');
      yield new Uint8Array(10);
    };
    await assert.rejects(writeOutputFile(at('gone/x'), contents), {
      code: 'FILE_UNWRITABLE',
      message: /gone\/x: ENOTDIR/,
    });
  });
});

const WRITER = await bundledProgram(new URL('endless-writer.ts', import.meta.url));

/** How a process ends that `signal` meets while it writes. Nothing is left in its folder. */
async function endOf(signal: NodeJS.Signals, ...listens: string[]): Promise<unknown> {
  const own = await mkdtemp(join(folder, 'own-'));
  const child = spawn(process.execPath, [WRITER, join(own, 'x'), ...listens], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((written) => child.stdout.once('data', written));
  assert.match((await readdir(own)).join(), /^x\.[0-9a-f]+\.partial$/);
  child.kill(signal);
  const end = await new Promise((ended) => child.once('exit', (code, by) => ended(by ?? code)));
  assert.deepEqual(await readdir(own), []);
  return end;
}

test('a process that a signal ends while it writes leaves nothing, and ends by the signal', async () => {
  const ends = await Promise.all([
    endOf('SIGINT'),
    endOf('SIGTERM'),
    endOf('SIGHUP'),
    endOf('SIGTERM', 'listens'),
  ]);
  assert.deepEqual(ends, ['SIGINT', 'SIGTERM', 'SIGHUP', 7]);
});

test('a process that goes on after a signal keeps what it writes', () => {
  const path = join(folder, 'kept');
  const module = new URL('../../src/unfinished.ts', import.meta.url).href;
  const program = `import { existsSync, writeFileSync } from 'node:fs';
    import { begin, finish } from ${JSON.stringify(module)};
    const path = ${JSON.stringify(path)};
    writeFileSync(path, '');
    begin(path);
    process.once('SIGTERM', () => setTimeout(() => {
      console.log(existsSync(path) ? 'kept' : 'removed');
      finish(path);
    }, 20));
    process.kill(process.pid, 'SIGTERM');
    setTimeout(() => {}, 200);`;
  const stdout = execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    encoding: 'utf8',
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  });
  assert.equal(stdout, 'kept\n');
});

test('a file beside those that it is made of is replaced', async () => {
  const [source, target] = [join(folder, 'source'), join(folder, 'target')];
  for (const path of [source, target]) await writeFile(path, 'before');
  await writeOutputFile(target, 'after', { sources: [source] });
  assert.equal(await readFile(target, 'utf8'), 'after');
  await assert.rejects(writeOutputFile(source, 'after', { sources: [target, source] }), {
    code: 'FILE_UNWRITABLE',
    message: /it is made of/,
  });
  assert.equal(await readFile(source, 'utf8'), 'before');
});

test('the process is listened to while something is unfinished only', async () => {
  const counted = () => process.listenerCount('SIGTERM') + process.listenerCount('exit');
  const before_ = counted();
  await Promise.all(Array.from({ length: 20 }, (_, i) => writeOutputFile(at(`${i}`), 'new')));
  assert.equal(counted(), before_);
  assert.ok(existsSync(at('19')));
});

test('a name with a zero byte, which no file has', async () => {
  await assert.rejects(writeOutputFile(at('nul\0'), 'new'), {
    code: 'FILE_UNWRITABLE',
    message: /^cannot write .*nul\\x00: .* without null bytes/,
  });
});
