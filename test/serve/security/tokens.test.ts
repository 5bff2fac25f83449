import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { test } from 'node:test';
import { FormatError } from '../../../src/errors.ts';
import { firstToken, holdsToken, readTokens } from '../../../src/serve/security/tokens.ts';
import { secretFile } from '../../support/certificates.ts';

const [first, second] = ['first-token-of-all', 'c2Vjb25kLXRva2Vu+/=='];

test('each line is a token, but for remarks and empty lines', async () => {
  const { digests, warnings } = await readTokens(secretFile(`# old\n${first}\r\n\n  ${second}  \n`));
  assert.equal(digests.length, 2);
  assert.deepEqual(warnings, []);
  for (const token of [first, second])
    for (const field of [`Bearer ${token}`, `bearer  ${token} `])
      assert.ok(holdsToken(field, digests), field);
});

test('a client takes the first', async () => {
  assert.equal(await firstToken(secretFile(`# mine\n${first}\n${second}\n`)), first);
  await assert.rejects(firstToken(secretFile('# none\n')), FormatError);
});

test('nothing else opens', async () => {
  const { digests } = await readTokens(secretFile(first));
  const wrong = ['', 'Bearer', 'Bearer ', first, `Basic ${first}`, `Bearer ${first}x`, `Bearer ${first} x`];
  for (const field of [undefined, ...wrong, `Bearer ${first.slice(1)}`, `Bearer ${first.toUpperCase()}`])
    assert.equal(holdsToken(field, digests), false, field);
  assert.equal(holdsToken(`Bearer ${first}`, []), false);
});

test('the place of a token among many does not matter', async () => {
  const all = Array.from({ length: 20 }, (_, i) => `token-of-${i}-${'x'.repeat(i + 10)}`);
  const { digests } = await readTokens(secretFile(all.join('\n')));
  for (const token of all) assert.ok(holdsToken(`Bearer ${token}`, digests));
});

test('files without good tokens are refused, and the error tells no token', async () => {
  const cases: [string, RegExp][] = [
    ['', /holds no token/],
    ['# nothing\n', /holds no token/],
    [`${first}\ntoo-short\n`, /line 2 is no token/],
    ['a token with spaces in it', /line 1 is no token/],
    [`${first}é`, /line 1 is no token/],
    ['x'.repeat(513), /line 1 is no token/],
    [Array.from({ length: 1001 }, (_, i) => `${first}${i}`).join('\n'), /more than 1000/],
  ];
  for (const [text, message] of cases)
    await assert.rejects(readTokens(secretFile(text)), (error) => {
      assert.ok(error instanceof FormatError);
      assert.equal(error.code, 'TOKENS_INVALID');
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /too-short|first-token|spaces/);
      return true;
    });
});

test('a file that others may read is told', async () => {
  const file = secretFile(first);
  chmodSync(file, 0o644);
  assert.match(
    (await readTokens(file)).warnings.join(),
    /may be read or written by other users \(mode 644\)/,
  );
});
