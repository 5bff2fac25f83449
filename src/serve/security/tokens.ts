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
  const tokens = tokensIn(file, text);
  return { digests: tokens.map(digestOf), warnings: warning === undefined ? [] : [warning] };
}

/** What a client takes of such a file. @throws as `readTokens`. */
export async function firstToken(file: string): Promise<string> {
  const { text } = await readSecretFile(file, 'TOKENS_INVALID');
  return tokensIn(file, text)[0];
}

/** @throws FormatError TOKENS_INVALID. */
function tokensIn(file: string, text: string): readonly [string, ...string[]] {
  const tokens = text.split('\n').flatMap((line, i) => {
    const token = line.trim();
    if (token === '' || token.startsWith('#')) return [];
    if (TOKEN.test(token)) return [token];
    throw new FormatError('TOKENS_INVALID', `${file}: line ${i + 1} is no token`, { file, position: i + 1 });
  });
  const [first, ...rest] = tokens;
  if (first === undefined) throw new FormatError('TOKENS_INVALID', `${file} holds no token`, { file });
  if (tokens.length > MOST_TOKENS)
    throw new FormatError('TOKENS_INVALID', `${file} holds more than ${MOST_TOKENS} tokens`, { file });
  return [first, ...rest];
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
