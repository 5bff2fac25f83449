import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HotrowError } from '../../../src/errors.ts';
import { routeOf } from '../../../src/serve/protocol/route.ts';
import { Guard, type Need, needOf } from '../../../src/serve/security/guard.ts';
import { readSecurity } from '../../../src/serve/security/security.ts';
import { secretFile } from '../../support/certificates.ts';

const SHOP = 'https://shop.example';
const [user, admin] = ['token-of-a-client', 'token-of-the-admin'];
const tokens = secretFile(user);
const adminTokens = secretFile(admin);

async function guard(files: Parameters<typeof readSecurity>[0]): Promise<Guard> {
  return new Guard((await readSecurity(files)).security.access);
}

/** The code that it is refused with. */
function codeOf(own: Guard, need: Need, asked: Parameters<Guard['check']>[1]): string {
  try {
    own.check(need, asked);
    return 'passes';
  } catch (error) {
    return (error as HotrowError).code;
  }
}

test('who needs which token', async () => {
  const rules = {
    'no tokens': await guard({ origins: [] }),
    tokens: await guard({ origins: [], tokens }),
    'admin tokens': await guard({ origins: [], adminTokens }),
    both: await guard({ origins: [], tokens, adminTokens }),
    'tokens, administered': await guard({ origins: [], tokens, isAdministered: true }),
    administered: await guard({ origins: [], isAdministered: true }),
  };
  const given = {
    none: undefined,
    wrong: 'Bearer of-something-else',
    user: `Bearer ${user}`,
    admin: `Bearer ${admin}`,
  };
  const passing = Object.entries(rules).flatMap(([rule, own]) =>
    (['nothing', 'token', 'admin-token'] as const).map((need) => {
      const who = Object.entries(given).filter(([name, authorization]) => {
        const code = codeOf(own, need, { authorization, host: 'localhost:8000' });
        const isOff = need === 'admin-token' && (rule === 'tokens' || rule === 'no tokens');
        // A token that is known and gives no right to it.
        const isForbidden = isOff || (need === 'admin-token' && rule === 'both' && name === 'user');
        assert.ok(code === 'passes' || code === (isForbidden ? 'ADMIN_FORBIDDEN' : 'UNAUTHENTICATED'));
        return code === 'passes';
      });
      return `${rule}, ${need}: ${who.map(([name]) => name).join(' ')}`;
    }),
  );
  const all = 'none wrong user admin';
  assert.deepEqual(passing, [
    `no tokens, nothing: ${all}`,
    `no tokens, token: ${all}`,
    'no tokens, admin-token: ',
    `tokens, nothing: ${all}`,
    'tokens, token: user',
    'tokens, admin-token: ',
    `admin tokens, nothing: ${all}`,
    `admin tokens, token: ${all}`,
    'admin tokens, admin-token: admin',
    `both, nothing: ${all}`,
    'both, token: user admin',
    'both, admin-token: admin',
    `tokens, administered, nothing: ${all}`,
    'tokens, administered, token: user',
    'tokens, administered, admin-token: user',
    `administered, nothing: ${all}`,
    `administered, token: ${all}`,
    `administered, admin-token: ${all}`,
  ]);
});

test('what changes models needs administration, what is read or scored a token, and health nothing', () => {
  const asked: Readonly<Record<Need, readonly string[]>> = {
    nothing: ['GET /v2/health/live', 'GET /v2/health/ready'],
    token: [
      'GET /v2',
      'GET /metrics',
      'GET /v2/models/m',
      'GET /v2/models/m/ready',
      'GET /v2/models/stats',
      'POST /v2/models/m/infer',
      'POST /v2/repository/index',
    ],
    'admin-token': [
      'POST /v2/repository/models/m/load',
      'POST /v2/repository/models/m/unload',
      'POST /v2/repository/models/m/patches',
    ],
  };
  for (const [need, lines] of Object.entries(asked))
    for (const line of lines) {
      const [method = '', path = ''] = line.split(' ');
      const routed = routeOf(method, path);
      assert.ok('route' in routed, line);
      assert.equal(needOf(routed.route), need, line);
    }
  assert.equal(needOf(undefined), 'token');
});

test('administration without tokens goes by the names of the machine itself', async () => {
  const own = await guard({ origins: [], isAdministered: true });
  for (const host of ['localhost', 'LocalHost:80', '127.0.0.1:8000', '127.1.2.3', '[::1]:8000', '[::1]'])
    assert.equal(codeOf(own, 'admin-token', { host }), 'passes', host);
  const names = [
    'evil.example:8000',
    'localhost.evil.example',
    '10.0.0.1',
    '127.0.0.1.evil.example',
    '[::2]:80',
    '',
  ];
  for (const host of [undefined, ...names])
    assert.equal(
      codeOf(own, 'admin-token', { host, ...(host ? { origin: `http://${host}` } : {}) }),
      'ADMIN_FORBIDDEN',
      host,
    );
  const withToken = await guard({ origins: [], adminTokens });
  assert.equal(
    codeOf(withToken, 'admin-token', { host: 'a.example', authorization: `Bearer ${admin}` }),
    'passes',
  );
});

test('pages of other origins ask only where they are named', async () => {
  const own = await guard({ origins: [SHOP] });
  const cases: [string, string][] = [
    [SHOP, 'passes'],
    ['https://shop.example:444', 'ORIGIN_FORBIDDEN'],
    ['http://shop.example', 'ORIGIN_FORBIDDEN'],
    ['https://shop.example.evil.example', 'ORIGIN_FORBIDDEN'],
    ['null', 'ORIGIN_FORBIDDEN'],
    ['', 'ORIGIN_FORBIDDEN'],
    // The server's own.
    ['http://127.0.0.1:8000', 'passes'],
    ['https://127.0.0.1:8000', 'passes'],
    ['https://127.0.0.1', 'ORIGIN_FORBIDDEN'],
  ];
  for (const [origin, code] of cases)
    for (const need of ['nothing', 'token'] as const)
      assert.equal(codeOf(own, need, { origin, host: '127.0.0.1:8000' }), code, origin);
  assert.equal(own.answerHeaders(SHOP)?.['access-control-allow-origin'], SHOP);
  assert.deepEqual(own.answerHeaders('https://evil.example'), { vary: 'origin' });
  assert.equal(own.preflightHeaders('https://evil.example', 'GET'), undefined);
  const none = await guard({ origins: [] });
  assert.equal(none.answerHeaders(SHOP), undefined);
  assert.equal(none.preflightHeaders(SHOP, 'GET'), undefined);
});

test('what is no origin is refused', async () => {
  for (const origin of [
    '*',
    'null',
    'shop.example',
    `${SHOP}/`,
    'ftp://shop.example',
    'HTTPS://shop.example',
  ])
    await assert.rejects(readSecurity({ origins: [origin] }), (error) => {
      assert.ok(error instanceof HotrowError);
      assert.equal(error.code, 'USAGE');
      return true;
    });
});
