/** Every kind of file is told by its contents, and refused by its name wherever it is not read. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { HotrowError } from '../../src/errors.ts';
import { expectKind, identify, type Kind, type Purpose } from '../../src/formats/file-kind.ts';
import { KINDS, PURPOSES } from '../../src/formats/kinds/table.ts';
import { loadCheckpoint } from '../../src/model/checkpoint/checkpoint.ts';
import { readRequest } from '../../src/model/request/safetensors-request.ts';
import { readResults } from '../../src/report/read-results.ts';
import { readTrace } from '../../src/workload/trace.ts';
import { FILES, safetensorsOf, smallZip } from '../support/file-kinds.ts';
import fc from '../support/properties.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-kinds-'));
});
after(() => rm(folder, { recursive: true }));

async function put(bytes: Uint8Array | string, name = 'file'): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

async function errorOf(work: Promise<unknown>): Promise<HotrowError> {
  const error = await work.then(
    () => assert.fail('was read'),
    (cause: unknown) => cause,
  );
  assert.ok(error instanceof HotrowError, String((error as Error).stack));
  return error;
}

const KIND_NAMES = Object.keys(KINDS) as Kind[];
const PURPOSE_NAMES = Object.keys(PURPOSES) as Purpose[];

describe('kinds', () => {
  for (const kind of KIND_NAMES) {
    test(kind, async () => {
      for (const [i, bytes] of FILES[kind].entries()) {
        // A name that says something else changes nothing.
        const path = await put(bytes, `${kind}-${i}.safetensors`);
        const found = await identify(path);
        assert.deepEqual([found.kind, found.truncated], [kind, false], `file ${i}`);
        // A gzip file in a gzip file is not looked into.
        assert.equal(found.gzipped, kind === 'gzip');
      }
    });
  }

  test('gzipped, by what it inflates to', async () => {
    // An end is not looked at: TensorFlow's index has its magic there.
    for (const kind of KIND_NAMES.filter((name) => name !== 'gzip' && name !== 'zip')) {
      const found = await identify(await put(gzipSync(FILES[kind][0] as Buffer)));
      assert.deepEqual(found, { kind, gzipped: true, truncated: false }, kind);
    }
  });

  test('safetensors whose header length begins like a pickle', async () => {
    for (const length of [128, 384, 640, 896, 1152, 1408]) {
      const prefix = Buffer.alloc(8);
      prefix.writeBigUInt64LE(BigInt(length));
      const json = '{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.padEnd(length);
      const path = await put(Buffer.concat([prefix, Buffer.from(json), Buffer.alloc(4)]));
      assert.equal((await identify(path)).kind, 'safetensors', `length ${length}`);
    }
  });

  test('a trace that holds other bytes further on is a trace', async () =>
    assert.equal(
      (await identify(await put(Buffer.concat([Buffer.from('7\n'), Buffer.alloc(9)])))).kind,
      'trace',
    ));

  test('a long text of two-byte characters, cut in one', async () =>
    assert.equal((await identify(await put(`x${'é'.repeat(70_000)}`))).kind, 'text'));
});

describe('refusals', () => {
  for (const purpose of PURPOSE_NAMES) {
    const { called, reads, gzipped, code = 'FORMAT_UNKNOWN' } = PURPOSES[purpose];

    for (const kind of KIND_NAMES.filter((name) => !reads.includes(name))) {
      test(`${kind} is not ${called}`, async () => {
        const path = await put(FILES[kind][0] as Buffer);
        const error = await errorOf(expectKind(path, purpose));
        assert.ok(error.message.startsWith(path), error.message);
        assert.equal(error.details.file, path);
        assert.doesNotMatch(`${error.message} ${error.hint}`, /damaged|truncated/);
        assert.ok(error.hint.length > 0);
        if (kind === 'empty')
          return assert.match(`${error.code} ${error.message}`, /^FILE_TRUNCATED .* is empty$/);
        assert.equal(error.code, code);
        assert.ok(error.message.includes(` is ${KINDS[kind].called}`), error.message);
        assert.ok(error.message.endsWith(`not ${called}`), error.message);
      });
    }

    for (const kind of reads) {
      test(`${kind} may be ${called}`, async () => {
        assert.equal((await expectKind(await put(FILES[kind][0] as Buffer), purpose)).kind, kind);
        const packed = await put(gzipSync(FILES[kind][0] as Buffer));
        if (gzipped.includes(kind)) return assert.equal((await expectKind(packed, purpose)).gzipped, true);
        const error = await errorOf(expectKind(packed, purpose));
        assert.match(error.message, /gzipped: it is read unpacked only/);
        assert.match(error.hint, /gunzip/);
      });
    }
  }

  test('model and request that are swapped', async () => {
    const model = await put(safetensorsOf('emb_l.0.weight'), 'model');
    const request = await put(safetensorsOf('dense', 'indices.0', 'offsets.0'), 'request');
    for (const error of [
      await errorOf(expectKind(request, 'model')),
      await errorOf(expectKind(model, 'request')),
      await errorOf(expectKind(await put(FILES.torch[0] as Buffer), 'request')),
    ])
      assert.match(error.hint, /swapped\?/);
  });

  test("readers below the commands name a file's kind too", async () => {
    const torch = await put(FILES.torch[0] as Buffer, 'request.safetensors');
    const error = await errorOf(readRequest(torch));
    assert.match(error.message, /is a PyTorch file \(torch\.save\), not a safetensors file/);
  });
});

describe('truncated files are called so', () => {
  const WORDS = /truncated|damaged|bytes short|ends in the middle|is empty|ends at/;
  const large = smallZip(
    Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`a${i}.npy`, 'x'.repeat(99)])),
  );
  const cut = (bytes: Uint8Array, share = 0.7) => bytes.subarray(0, Math.floor(bytes.length * share));

  test('a safetensors header and data', async () => {
    const whole = safetensorsOf('emb_l.0.weight', 'emb_l.1.weight');
    for (const bytes of [whole.subarray(0, 8), whole.subarray(0, 30), whole.subarray(0, -2)]) {
      const error = await errorOf(loadCheckpoint(await put(bytes)));
      assert.equal(error.code, 'SAFETENSORS_INVALID');
      assert.match(`${error.message} ${error.hint}`, WORDS);
    }
  });

  test('a zip of torch.save', async () => {
    const path = await put(cut(FILES.torch[0] as Buffer));
    assert.deepEqual(await identify(path), { kind: 'torch', gzipped: false, truncated: true });
    const error = await errorOf(loadCheckpoint(path));
    assert.match(`${error.message} ${error.hint}`, WORDS);
  });

  test('another zip', async () => {
    const error = await errorOf(loadCheckpoint(await put(cut(large))));
    assert.match(error.message, /is a NumPy archive \(\.npz\), truncated, not a checkpoint/);
  });

  test("torch.save's old format", async () => {
    const error = await errorOf(loadCheckpoint(await put(cut(FILES['torch-legacy'][0] as Buffer))));
    assert.match(`${error.message} ${error.hint}`, WORDS);
  });

  test('gzip', async () => {
    const error = await errorOf(readTrace(await put(cut(gzipSync('1\n2\n3\n4\n5\n6\n7\n8\n')))));
    assert.equal(error.code, 'GZIP_INVALID');
    assert.match(error.message, WORDS);
  });

  test('JSON', async () => {
    const error = await errorOf(readResults(await put(cut(FILES.results[0] as Buffer))));
    assert.equal(error.code, 'FILE_TRUNCATED');
    assert.match(error.message, WORDS);
  });
});

describe('hostile zips', () => {
  test('a directory that lies past the end, or says it has 4 GiB', async () => {
    const zip = smallZip({ 'a.npy': 'x' });
    const end = zip.length - 22;
    const past = Buffer.from(zip);
    past.writeUInt32LE(0xfffffff0, end + 16);
    assert.equal((await identify(await put(past))).kind, 'npz');
    const huge = Buffer.from(zip);
    huge.writeUInt32LE(0xffffffff, end + 12);
    assert.equal((await identify(await put(huge))).kind, 'npz');
  });
});

describe('any bytes', () => {
  const readers = [loadCheckpoint, readRequest, readTrace, readResults];
  const survives = async (bytes: Uint8Array): Promise<void> => {
    const path = await put(bytes, 'fuzz');
    for (const read of readers) {
      await (read as (file: string) => Promise<unknown>)(path).catch((error: unknown) => {
        assert.ok(error instanceof HotrowError, String((error as Error).stack));
        assert.ok(error.message.includes(path), error.message);
      });
    }
    for (const purpose of PURPOSE_NAMES)
      await expectKind(path, purpose).catch((error: unknown) => assert.ok(error instanceof HotrowError));
  };

  test('random ones give a typed error or a value', () =>
    fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), survives), { numRuns: 150 }));

  test('so do beginnings of true files, with a byte changed', () => {
    const files = KIND_NAMES.flatMap((kind) => FILES[kind]);
    return fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...files),
        fc.nat(),
        fc.nat(),
        fc.nat(255),
        async (file, length, at, byte) => {
          const bytes = Buffer.from(file.subarray(0, length % (file.length + 1)));
          if (bytes.length > 0 && byte > 0) bytes[at % bytes.length] = byte;
          await survives(bytes);
        },
      ),
      { numRuns: 250 },
    );
  });
});
