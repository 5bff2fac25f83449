import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { HotrowError } from '../../src/errors.ts';
import { inflatedHead, openMaybeGzip, withPlainFile } from '../../src/formats/gzip.ts';
import fc from '../support/properties.ts';
import { Random } from '../support/random.ts';
import { descriptors, refuseCounting } from '../support/resources.ts';

/** For a process that never ends; no machine is so slow. */
const HANGS_MS = 300_000;

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-gzip-'));
});
after(() => rm(folder, { recursive: true }));

async function put(bytes: Uint8Array, name = 'x.gz'): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

async function readAll(path: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of openMaybeGzip(path)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Bytes that deflate little. */
const noise = Buffer.from(
  Uint8Array.from({ length: 3_000_000 }, (_, i) => (Math.imul(i, 2654435761) >>> 13) ^ (i >> 3)),
);

describe('reading', () => {
  test('plain files as they are', async () =>
    assert.ok((await readAll(await put(noise, 'plain'))).equals(noise)));
  test('gzipped files inflated', async () =>
    assert.ok((await readAll(await put(gzipSync(noise)))).equals(noise)));
  test('members one after the other', async () => {
    const path = await put(Buffer.concat([gzipSync('one,'), gzipSync('two')]));
    assert.equal((await readAll(path)).toString(), 'one,two');
  });
  test('empty files, plain and gzipped', async () => {
    assert.equal((await readAll(await put(new Uint8Array(0)))).length, 0);
    assert.equal((await readAll(await put(gzipSync('')))).length, 0);
  });
  test('a reader may stop early', async () => {
    const path = await put(gzipSync(noise));
    for await (const chunk of openMaybeGzip(path)) {
      assert.ok(chunk.length > 0);
      break;
    }
  });
});

describe('damage', () => {
  const rows: readonly (readonly [name: string, bytes: () => Uint8Array])[] = [
    ['truncated', () => gzipSync(noise).subarray(0, 100_000)],
    ['truncated in its header', () => gzipSync('abc').subarray(0, 6)],
    ['truncated in its checksum', () => gzipSync('abc').subarray(0, -3)],
    [
      'of another checksum',
      () => {
        const bytes = gzipSync('abc');
        bytes[bytes.length - 6] = (bytes[bytes.length - 6] as number) ^ 1;
        return bytes;
      },
    ],
    ['of random content', () => Buffer.concat([gzipSync('').subarray(0, 10), noise.subarray(0, 1000)])],
  ];
  for (const [name, bytes] of rows) {
    test(name, async () => {
      const path = await put(bytes(), `${name.replaceAll(' ', '-')}.gz`);
      await assert.rejects(readAll(path), (error: unknown) => {
        assert.ok(error instanceof HotrowError, String(error));
        assert.equal(error.code, 'GZIP_INVALID');
        assert.ok(error.message.includes(path));
        return true;
      });
    });
  }

  test('random bytes after the magic: contents or a HotrowError', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), async (bytes) => {
        const path = await put(Buffer.concat([Buffer.from([0x1f, 0x8b]), bytes]), 'fuzz.gz');
        await readAll(path).catch((error: unknown) => assert.ok(error instanceof HotrowError, String(error)));
      }),
      { numRuns: 200 },
    );
  });

  test('a bomb is refused soon after 256 MiB', async () => {
    // 512 MiB of zeros: one member of 64 MiB, eight times.
    const member = gzipSync(new Uint8Array(64 << 20), { level: 9 });
    const path = await put(Buffer.concat(Array.from({ length: 8 }, () => member)), 'bomb.gz');
    let inflated = 0;
    const read = async () => {
      for await (const chunk of openMaybeGzip(path)) inflated += chunk.length;
    };
    await assert.rejects(read(), (error: unknown) => {
      assert.ok(error instanceof HotrowError, String(error));
      assert.equal(error.code, 'GZIP_BOMB');
      assert.ok(error.message.includes(path));
      return true;
    });
    assert.ok(inflated >= 255 << 20 && inflated < 320 << 20, `${inflated} bytes`);
  });

  test('folders', () => assert.rejects(readAll(folder), { code: 'FILE_UNREADABLE' }));

  test('missing files: a typed error, and the process lives on', () => {
    // In a process of its own: an unhandled event of the stream would end it.
    const module = new URL('../../src/formats/gzip.ts', import.meta.url).href;
    const program = `import { openMaybeGzip } from ${JSON.stringify(module)};
        try { for await (const _ of openMaybeGzip('/nonexistent/x.gz')); } catch (error) { console.log(error.code); }
        await new Promise((resolve) => setTimeout(resolve, 100));
        console.log('alive');`;
    const { stdout } = spawnSync(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', program],
      { encoding: 'utf8', cwd: fileURLToPath(new URL('../..', import.meta.url)), timeout: HANGS_MS },
    );
    assert.equal(stdout, 'FILE_NOT_FOUND\nalive\n');
  });
});

describe('how far a file may inflate', () => {
  const MIB = 2 ** 20;
  const random = new Random(7);
  /** Members of a gzipped file, which inflate to 64 MiB each: one that compresses 64 times, one that does it 1,000 times. */
  const incompressible = Buffer.from(
    Uint32Array.from({ length: MIB / 4 }, () => random.integer(0, 2 ** 32 - 1)).buffer,
  );
  const modest = gzipSync(Buffer.concat([incompressible, incompressible, Buffer.alloc(62 * MIB)]), {
    level: 1,
  });
  const extreme = gzipSync(Buffer.alloc(64 * MIB));

  async function inflated(path: string): Promise<number> {
    let bytes = 0;
    for await (const chunk of openMaybeGzip(path)) bytes += chunk.length;
    return bytes;
  }

  test('a large file of a modest ratio is read, of whatever chunks', async () => {
    const path = join(folder, 'modest.gz');
    await writeFile(path, Buffer.concat(Array(5).fill(modest)));
    assert.equal(await inflated(path), 5 * 64 * MIB);
  });

  test('the first bytes of one that inflates without end are had', async () => {
    const bytes = Buffer.concat(Array(5).fill(extreme));
    const path = join(folder, 'extreme.gz');
    await writeFile(path, bytes);
    await assert.rejects(inflated(path), { code: 'GZIP_BOMB' });
    assert.deepEqual(await inflatedHead(path, bytes.subarray(0, 64), 16), Buffer.alloc(16));
  });

  test('no file stays open, read to its end or not', { skip: refuseCounting }, async () => {
    const path = join(folder, 'open.gz');
    const plain = join(folder, 'open');
    await writeFile(path, modest);
    await writeFile(plain, incompressible);
    const before = descriptors();
    for (const file of [path, plain]) {
      await inflated(file);
      for await (const _ of openMaybeGzip(file)) break;
    }
    assert.equal(descriptors(), before);
  });
});

describe('withPlainFile', () => {
  test('gives a copy of a gzipped file, which is gone afterwards', async () => {
    const seen = await withPlainFile(await put(gzipSync(noise)), true, async (path) => {
      assert.ok((await readFile(path)).equals(noise));
      return path;
    });
    assert.ok(!existsSync(seen) && !existsSync(dirname(seen)));
  });
  test('gives a plain file itself', async () => {
    const path = await put(noise);
    assert.equal(await withPlainFile(path, false, async (given) => given), path);
  });
  test('damaged files', async () => {
    const path = await put(gzipSync(noise).subarray(0, 100_000));
    await assert.rejects(
      withPlainFile(path, true, async () => {}),
      { code: 'GZIP_INVALID' },
    );
  });
});
