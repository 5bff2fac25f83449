/** What a file is, by its contents and never by its name; and the error for one that is something else. */
import { FormatError } from '../errors.ts';
import { binaryKind } from './kinds/binary.ts';
import { type Contents, withContents } from './kinds/contents.ts';
import { beginsAsJson, jsonKind } from './kinds/json.ts';
import { protobufKind } from './kinds/protobuf.ts';
import { factsOf, KINDS, type Kind, PURPOSES, type Purpose } from './kinds/table.ts';
import { asText, beginsAsTrace, textKind } from './kinds/text.ts';
import { isZip, zipKind } from './kinds/zip.ts';

export type { Kind, Purpose } from './kinds/table.ts';

export interface FileKind {
  readonly kind: Kind;
  /** `kind` is what the file inflates to. */
  readonly gzipped: boolean;
  /** A zip that has lost its end. */
  readonly truncated: boolean;
}

/** JSON of at most this size is looked at as a whole, for keys that stand at its end. */
const MAX_JSON_BYTES = 16 << 20;

/**
 * Tells what a file is. Reads its first 64 KiB (of what it inflates to), a zip's directory, the header of a safetensors
 * file and JSON up to 16 MiB.
 * @throws UsageError FILE_*; FormatError GZIP_INVALID.
 */
export function identify(file: string): Promise<FileKind> {
  return withContents(file, async (contents, gzipped) => {
    const found = isZip(contents)
      ? await zipKind(contents)
      : { kind: await kindOf(contents), truncated: false };
    return { ...found, gzipped };
  });
}

/**
 * Tells what a file is, and refuses it where that is not read for `purpose`.
 * @throws as identify; FormatError FORMAT_UNKNOWN that names the kind, FILE_TRUNCATED for an empty file.
 */
export async function expectKind(file: string, purpose: Purpose): Promise<FileKind> {
  const found = await identify(file);
  const { reads, gzipped } = PURPOSES[purpose];
  if (!(found.gzipped ? gzipped : reads).includes(found.kind)) throw mistaken(file, found, purpose);
  return found;
}

/** The error for a file that is something else than is wanted. */
export function mistaken(
  file: string,
  { kind, gzipped, truncated }: FileKind,
  purpose: Purpose,
): FormatError {
  if (kind === 'empty') return new FormatError('FILE_TRUNCATED', `${file} is empty`, { file });
  const { called, remedies } = factsOf(kind);
  const wanted = PURPOSES[purpose];
  const { code = 'FORMAT_UNKNOWN', remediesOf = purpose } = wanted;
  const also = `${gzipped ? ', gzipped' : ''}${truncated ? ', truncated' : ''}`;
  if (wanted.reads.includes(kind)) {
    const message = `${file} is ${called}${also}: it is read unpacked only`;
    return new FormatError(code, message, { file, hint: 'unpack it first: gunzip' });
  }
  return new FormatError(code, `${file} is ${called}${also}, not ${wanted.called}`, {
    file,
    hint: remedies?.[remediesOf] ?? remedies?.any ?? wanted.hint,
  });
}

async function kindOf(contents: Contents): Promise<Kind> {
  const { head } = contents;
  if (head.length === 0) return 'empty';
  const text = asText(head);
  const magic = magicKind(head, text !== undefined);
  if (magic !== undefined) return magic;
  if (text !== undefined)
    return beginsAsJson(text) ? jsonKind(await wholeText(contents, text)) : textKind(text);
  if (beginsAsTrace(head)) return 'trace';
  return (await binaryKind(contents)) ?? protobufKind(head) ?? 'binary';
}

/** The whole text of a file that is not large; else its beginning. */
async function wholeText({ size, read, head }: Contents, beginning: string): Promise<string> {
  if (size === undefined || size <= head.length || size > MAX_JSON_BYTES) return beginning;
  return (await read(0, size)).toString('utf8');
}

/** The kind whose magic stands in the file. Words of few letters begin texts too. */
function magicKind(head: Buffer, isText: boolean): Kind | undefined {
  const shortest = isText ? 5 : 0;
  return (Object.keys(KINDS) as Kind[]).find((kind) =>
    factsOf(kind).magic?.some(
      ([at, bytes]) => bytes.length >= shortest && head.toString('latin1', at, at + bytes.length) === bytes,
    ),
  );
}
