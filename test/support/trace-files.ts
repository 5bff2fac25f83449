/** Trace files in a temporary folder, and readers that must fail. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import type { IndexArray } from '../../src/embedding/bag.ts';
import { type HotrowError, WorkloadError } from '../../src/errors.ts';
import { readTrace } from '../../src/workload/trace.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-trace-'));
});
after(() => rm(folder, { recursive: true }));

/** Writes `content` where the test's end deletes it. */
export async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

export const numbers = (indices: IndexArray | undefined) =>
  Array.from((indices ?? []) as Iterable<number | bigint>, Number);

/** Reading `content` fails with `code` and a message that names the file and matches `pattern`. */
export async function refuses(
  content: string | Uint8Array,
  code: string,
  pattern: RegExp,
  name = 'bad.txt',
): Promise<HotrowError> {
  const path = await file(name, content);
  const error = await readTrace(path).then(
    () => assert.fail('was read'),
    (cause: unknown) => cause,
  );
  assert.ok(error instanceof WorkloadError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, pattern);
  assert.ok(error.message.includes(path), error.message);
  return error;
}
