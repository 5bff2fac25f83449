/** Small files that hold certificates, keys and tokens. */
import { FormatError, type FormatErrorCode } from '../../errors.ts';
import { openFile } from '../../input-file.ts';

/** A chain of certificates has some kilobytes. */
const MOST_BYTES = 1 << 20;
/** Others than owner and group may read it; others than the owner may write it. */
const LOOSE_MODE = 0o026;

export interface SecretFile {
  readonly text: string;
  /** Why the file is not kept as a secret is; undefined: it is. */
  readonly warning: string | undefined;
}

/** @throws UsageError FILE_*; FormatError `code` for a file that is too large. */
export async function readSecretFile(file: string, code: FormatErrorCode): Promise<SecretFile> {
  await using opened = await openFile(file);
  const { size, mode } = opened.stat();
  if (size > MOST_BYTES)
    throw new FormatError(code, `${file} has ${size} bytes, more than the ${MOST_BYTES} that are read`, {
      file,
    });
  const text = (await opened.readAll()).toString('utf8');
  const warning =
    (mode & LOOSE_MODE) === 0
      ? undefined
      : `${file} may be read or written by other users (mode ${(mode & 0o777).toString(8)}): chmod 600`;
  return { text, warning };
}
