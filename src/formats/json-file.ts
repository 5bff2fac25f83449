/** Files that hold one JSON value. */
import { readFile } from 'node:fs/promises';
import { FormatError, fileError } from '../errors.ts';
import { expectKind, type Purpose } from './file-kind.ts';

/**
 * Reads a JSON file that is wanted for `purpose`; its reader checks what it holds.
 * @throws UsageError FILE_*; FormatError FORMAT_UNKNOWN for a file of another kind, FILE_TRUNCATED, JSON_INVALID, each
 * naming the file.
 */
export async function readJsonFile(file: string, purpose: Purpose): Promise<unknown> {
  await expectKind(file, purpose);
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw fileError(file, cause);
  });
  const json = text.replace(/^\uFEFF/, '').trim();
  try {
    return JSON.parse(json);
  } catch (cause) {
    const close = { '{': '}', '[': ']' }[json.charAt(0)];
    if (close !== undefined && !json.endsWith(close))
      throw new FormatError('FILE_TRUNCATED', `${file}: the file ends in the middle of its JSON`, {
        file,
        cause,
      });
    throw new FormatError('JSON_INVALID', `${file}: ${(cause as Error).message}`, { file, cause });
  }
}
