/** Files that hold one JSON value. */
import { readFile, stat } from 'node:fs/promises';
import { FormatError, fileError } from '../errors.ts';
import { expectKind, type Purpose } from './file-kind.ts';
import { findDuplicateKey } from './json-keys.ts';

/** Plans, descriptions and results have up to some megabytes, vocabularies of millions of ids more. */
const MAX_BYTES = 256 << 20;

/**
 * Reads a JSON file that is wanted for `purpose`; its reader checks what it holds.
 * @throws UsageError FILE_*; FormatError FORMAT_UNKNOWN for a file of another kind, FILE_TRUNCATED, JSON_INVALID (a key that
 * stands twice in an object included), each naming the file.
 */
export async function readJsonFile(file: string, purpose: Purpose): Promise<unknown> {
  await expectKind(file, purpose);
  const { size } = await stat(file).catch((cause) => {
    throw fileError(file, cause);
  });
  if (size > MAX_BYTES)
    throw new FormatError(
      'JSON_INVALID',
      `${file} has ${size} bytes, more than the ${MAX_BYTES} that are read`,
      {
        file,
      },
    );
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw fileError(file, cause);
  });
  const json = text.replace(/^\uFEFF/, '').trim();
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    const close = { '{': '}', '[': ']' }[json.charAt(0)];
    if (close !== undefined && !json.endsWith(close))
      throw new FormatError('FILE_TRUNCATED', `${file}: the file ends in the middle of its JSON`, {
        file,
        cause,
      });
    throw new FormatError('JSON_INVALID', `${file}: ${(cause as Error).message}`, { file, cause });
  }
  const twice = findDuplicateKey(json);
  if (twice === undefined) return value;
  const key = JSON.stringify(twice.slice(0, 100));
  throw new FormatError('JSON_INVALID', `${file}: the key ${key} stands twice in one object`, { file });
}
