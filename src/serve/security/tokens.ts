/** Bearer tokens: kept as digests, compared in constant time. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { FormatError } from '../../errors.ts';
import { readSecretFile } from './secret-file.ts';

/** SHA-256 of each token. */
export type TokenDigests = readonly Uint8Array[];

/** What `Authorization: Bearer` can carry (RFC 6750), of a length that nobody guesses. */
const TOKEN = /^[\w.~+/-]{16,512}={0,2}$/;
const MOST_TOKENS = 1000;

/**
 * A token a line: those of today and, while clients change over, of yesterday. Empty lines and those that begin with # are left out.
 * @throws UsageError FILE_*; FormatError TOKENS_INVALID, which names the line and never a token.
 */
export async function readTokens(
  file: string,
): Promise<{ readonly digests: TokenDigests; readonly warnings: readonly string[] }> {
  const { text, warning } = await readSecretFile(file, 'TOKENS_INVALID');
  const digests: Uint8Array[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    const token = line.trim();
    if (token === '' || token.startsWith('#')) continue;
    if (!TOKEN.test(token))
      throw new FormatError('TOKENS_INVALID', `${file}: line ${i + 1} is no token`, {
        file,
        position: i + 1,
      });
    digests.push(digestOf(token));
  }
  if (digests.length === 0) throw new FormatError('TOKENS_INVALID', `${file} holds no token`, { file });
  if (digests.length > MOST_TOKENS)
    throw new FormatError('TOKENS_INVALID', `${file} holds more than ${MOST_TOKENS} tokens`, { file });
  return { digests, warnings: warning === undefined ? [] : [warning] };
}

/**
 * Whether a field `Authorization` carries one of the tokens. What it carries is hashed and compared with all of them, whatever it is:
 * a wrong token, none and a right one take the same time.
 */
export function holdsToken(authorization: string | undefined, digests: TokenDigests): boolean {
  const [, given = ''] = /^Bearer +(\S+) *$/i.exec(authorization ?? '') ?? [];
  const digest = digestOf(given);
  let holds = false;
  for (const known of digests) holds = timingSafeEqual(known, digest) || holds;
  return holds;
}

function digestOf(token: string): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(token).digest());
}
