/** Files that hold one JSON value. */
import { FormatError } from '../errors.ts';
import { openFile } from '../input-file.ts';
import { expectKind, type Purpose } from './file-kind.ts';
import { JsonFault, parseJson } from './json-text.ts';

/** Plans, descriptions, indexes and results have up to some megabytes, vocabularies of millions of ids more. */
const MAX_BYTES = 64 << 20;
const MAX_VOCABULARY_BYTES = 256 << 20;

/**
 * Reads a JSON file that is wanted for `purpose`; its reader checks what it holds.
 * @throws UsageError FILE_*; FormatError FORMAT_UNKNOWN for a file of another kind, FILE_TRUNCATED, JSON_INVALID (a key that
 * stands twice in an object, values without end and nesting without end included), each naming the file.
 */
export async function readJsonFile(file: string, purpose: Purpose): Promise<unknown> {
  await expectKind(file, purpose);
  const limit = purpose === 'vocabulary' || purpose === 'ids' ? MAX_VOCABULARY_BYTES : MAX_BYTES;
  const json = (await readText(file, limit)).replace(/^\uFEFF/, '').trim();
  try {
    return parseJson(json);
  } catch (cause) {
    if (!(cause instanceof JsonFault)) throw cause;
    const close = { '{': '}', '[': ']' }[json.charAt(0)];
    if (cause.cause !== undefined && close !== undefined && !json.endsWith(close))
      throw new FormatError('FILE_TRUNCATED', `${file}: the file ends in the middle of its JSON`, {
        file,
        cause,
      });
    throw new FormatError('JSON_INVALID', `${file}: ${cause.message}`, { file, cause });
  }
}

async function readText(file: string, limit: number): Promise<string> {
  await using opened = await openFile(file);
  const { size } = opened;
  if (size > limit) {
    const message = `${file} has ${size} bytes, more than the ${limit} that are read`;
    throw new FormatError('JSON_INVALID', message, { file });
  }
  return (await opened.readAll()).toString('utf8');
}
