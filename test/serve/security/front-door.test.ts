/** TLS, client certificates, tokens and origins, as clients and strangers meet them: the HTTP of a server without models. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request } from 'node:https';
import { describe, test } from 'node:test';
import { type ConnectionOptions, connect } from 'node:tls';
import { DEFAULT_FRONT_LIMITS, type FrontLimits } from '../../../src/serve/door.ts';
import { SlotArena } from '../../../src/serve/engine/arena.ts';
import { handOverMemory } from '../../../src/serve/hand-over.ts';
import { FrontDoor } from '../../../src/serve/http/front-door.ts';
import { FrontModels } from '../../../src/serve/requests/front-models.ts';
import { readSecurity, type SecurityFiles } from '../../../src/serve/security/security.ts';
import { ServerState } from '../../../src/serve/state.ts';
import { accepting } from '../../support/accepting.ts';
import { authority, type Certified, secretFile, signed } from '../../support/certificates.ts';
import { Client, RawConnection, type Reply, refusal } from '../../support/http-client.ts';
import { NO_PAGE } from '../../support/no-page.ts';
import { NO_REPOSITORY } from '../../support/no-repository.ts';

const root = authority();
const own = signed(root);
const client = signed(root);
const tls = { certificate: own.certFile, key: own.keyFile };
const mutual = { ...tls, clientAuthorities: root.certFile };

interface Door extends AsyncDisposable {
  readonly port: number;
  readonly errors: readonly unknown[];
  renew(files: SecurityFiles): Promise<void>;
}

/** The HTTP of a server that is ready. */
async function open(files: SecurityFiles, limits: Partial<FrontLimits> = {}): Promise<Door> {
  const state = new ServerState(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  state.phase = 'ready';
  const arena = new SlotArena(1 << 16);
  const errors: unknown[] = [];
  const { security } = await readSecurity(files);
  const connections = handOverMemory();
  const door = new FrontDoor({
    connections,
    state,
    security,
    models: new FrontModels(),
    repository: NO_REPOSITORY,
    ...NO_PAGE,
    arena,
    slaMs: undefined,
    limits: { ...DEFAULT_FRONT_LIMITS, ...limits },
    metrics: async () => '',
    statistics: async () => '{}',
    observe: () => {},
    onConnection: () => {},
    onError: (error) => errors.push(error),
  });
  const accepted = await accepting(connections, door, limits.connections);
  return {
    port: accepted.port,
    errors,
    renew: async (files) => door.renew((await readSecurity(files)).security),
    async [Symbol.asyncDispose]() {
      state.phase = 'draining';
      accepted[Symbol.dispose]();
      await door.drain();
      arena[Symbol.dispose]();
    },
  };
}

/** A request over TLS, on a connection of its own or on the agent's; rejects where there is no answer. */
function ask(
  port: number,
  path: string,
  options: ConnectionOptions & { readonly agent?: Agent } = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const { agent = new Agent(), ...others } = options;
    const asked = request(
      { port, host: '127.0.0.1', path, ca: root.cert, agent, ...others },
      async (response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk);
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) });
      },
    );
    asked.once('error', reject);
    asked.end();
  });
}

const certificateOf = ({ cert, key }: Certified) => ({ cert, key });

describe('TLS', () => {
  test('1.2 and 1.3 are spoken, nothing older, and nothing unencrypted', async () => {
    await using served = await open({ origins: [], tls });
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const only = { minVersion: version, maxVersion: version };
      assert.equal((await ask(served.port, '/v2', only)).status, 200);
    }
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    await assert.rejects(ask(served.port, '/v2', old));
    await assert.rejects(ask(served.port, '/v2', { ca: authority().cert }), {
      code: /SIGNATURE|VERIFY|ISSUER/,
    });
    using plain = await RawConnection.open(served.port);
    plain.send('GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n');
    assert.doesNotMatch(await plain.rest(), /HTTP/);
    assert.equal((await ask(served.port, '/v2/health/ready')).status, 200);
  });

  test('half a handshake holds its place for a while alone', async () => {
    await using served = await open({ origins: [], tls }, { connections: 3, handshakeMs: 100 });
    const halves = await Promise.all(Array.from({ length: 3 }, () => RawConnection.open(served.port)));
    // The beginning of a hello, nothing, and what is none.
    halves[0]?.send(Buffer.from('160301020001', 'hex'));
    let status = 0;
    while (status === 0)
      status = await ask(served.port, '/v2/health/ready').then(
        (reply) => reply.status,
        () => 0,
      );
    assert.equal(status, 200);
    await Promise.all(halves.map((half) => half.rest()));
    for (const half of halves) half[Symbol.dispose]();
  });

  test('the end waits for no handshake', async () => {
    const served = await open({ origins: [], tls }, { handshakeMs: 3_600_000 });
    using half = await RawConnection.open(served.port);
    half.send(Buffer.from('160301020001', 'hex'));
    await ask(served.port, '/v2/health/ready');
    await served[Symbol.asyncDispose]();
    await half.rest();
  });

  test('clients need a certificate that is signed and valid; others are noticed by nobody', async () => {
    await using served = await open({ origins: [], tls: mutual });
    using agent = Object.assign(new Agent({ keepAlive: true, maxSockets: 1 }), {
      [Symbol.dispose]: () => agent.destroy(),
    });
    const good = { ...certificateOf(client), agent };
    assert.equal((await ask(served.port, '/v2', good)).status, 200);
    const expired = signed(root, { days: -1 });
    const bad: [string, ConnectionOptions][] = [
      ['none', {}],
      ['expired', certificateOf(expired)],
      ["another's", certificateOf(signed(authority()))],
      ['signed by itself', certificateOf(authority())],
    ];
    for (const [name, options] of bad)
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        await assert.rejects(ask(served.port, '/v2', { ...options, maxVersion }), name);
        assert.equal((await ask(served.port, '/v2', good)).status, 200, name);
      }
    assert.deepEqual(served.errors, []);
  });

  test('certificates are renewed between connections', async () => {
    await using served = await open({ origins: [], tls });
    const serial = async () => {
      const socket = connect({ port: served.port, host: '127.0.0.1', ca: root.cert });
      await once(socket, 'secureConnect');
      const { serialNumber } = socket.getPeerCertificate();
      socket.destroy();
      return serialNumber;
    };
    const first = await serial();
    const next = signed(root);
    await served.renew({ origins: [], tls: { certificate: next.certFile, key: next.keyFile } });
    while ((await serial()) === first);
  });
});

describe('tokens', () => {
  const [user, later, admin] = ['token-of-a-client', 'token-of-tomorrow', 'token-of-the-admin'];
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const tokens = secretFile(user);
  const adminTokens = secretFile(admin);

  test('everything but health needs one', async () => {
    await using served = await open({ origins: [], tokens, adminTokens });
    using own = new Client(served.port);
    const infer = '/v2/models/rows/infer';
    const asked: [string, string][] = [
      ['GET', '/v2'],
      ['GET', '/metrics'],
      ['GET', '/v2/models/rows'],
      ['GET', '/v2/models/rows/ready'],
      ['GET', '/v2/models/stats'],
      ['POST', '/v2/repository/index'],
      ['POST', infer],
      ['GET', '/nothing'],
      ['DELETE', infer],
    ];
    const refusals = new Set<string>();
    for (const [method, path] of asked) {
      for (const headers of [{}, bearer('of-somebody-else-'), { authorization: `Basic ${user}` }]) {
        const reply = await own.ask(method, path, undefined, headers);
        assert.equal(refusal(reply), '401 UNAUTHENTICATED', path);
        const { date: _, ...headersOf } = reply.headers;
        refusals.add(JSON.stringify([headersOf, reply.body.toString()]));
      }
      for (const token of [user, admin])
        assert.notEqual((await own.ask(method, path, undefined, bearer(token))).status, 401, path);
    }
    assert.deepEqual([...refusals].length, 1, 'no refusal says more than another');
    assert.match([...refusals].join(), /"www-authenticate":"Bearer realm=/);
    for (const path of ['/v2/health/live', '/v2/health/ready'])
      for (const headers of [{}, bearer('of-somebody-else-')])
        assert.equal((await own.ask('GET', path, undefined, headers)).status, 200);
    const large = Buffer.alloc(1 << 20);
    assert.equal(refusal(await own.ask('POST', infer, large)), '401 UNAUTHENTICATED');
  });

  test('tokens are renewed, and those of before go on where they still stand', async () => {
    await using served = await open({ origins: [], tokens });
    using own = new Client(served.port);
    const statusOf = async (token: string) => (await own.ask('GET', '/v2', undefined, bearer(token))).status;
    assert.deepEqual([await statusOf(user), await statusOf(later)], [200, 401]);
    const renew = async (...all: string[]) =>
      served.renew({ origins: [], tokens: secretFile(all.join('\n')) });
    await renew(user, later);
    while ((await statusOf(later)) !== 200);
    assert.equal(await statusOf(user), 200);
    await renew(later);
    while ((await statusOf(user)) !== 401);
    assert.equal(await statusOf(later), 200);
  });
});

test('pages of named origins may ask, and read the answers', async () => {
  const origin = 'https://shop.example';
  await using served = await open({ origins: [origin], tokens: secretFile('token-of-a-client') });
  using own = new Client(served.port);
  const infer = '/v2/models/rows/infer';
  const before = await own.ask('OPTIONS', infer, undefined, {
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'authorization,content-type,inference-header-content-length',
  });
  assert.equal(before.status, 200);
  assert.equal(before.headers['access-control-allow-origin'], origin);
  assert.equal(before.headers['access-control-allow-methods'], 'POST');
  assert.match(
    String(before.headers['access-control-allow-headers']),
    /authorization.*inference-header-content-length/,
  );
  assert.equal(before.headers['access-control-allow-credentials'], undefined);
  // Also what is refused may be read, so that a page learns why.
  const refused = await own.ask('POST', infer, '{}', { origin });
  assert.equal(refusal(refused), '401 UNAUTHENTICATED');
  assert.equal(refused.headers['access-control-allow-origin'], origin);
  assert.match(String(refused.headers['access-control-expose-headers']), /retry-after/);
  assert.equal(refused.headers.vary, 'origin');
  assert.equal(refused.headers['x-content-type-options'], 'nosniff');
  const evil = { origin: 'https://evil.example', authorization: 'Bearer token-of-a-client' };
  const stranger = await own.ask('POST', infer, '{}', evil);
  assert.equal(refusal(stranger), '403 ORIGIN_FORBIDDEN');
  assert.equal(stranger.headers['access-control-allow-origin'], undefined);
  assert.equal(refusal(await own.ask('OPTIONS', infer, undefined, evil)), '403 ORIGIN_FORBIDDEN');
});
