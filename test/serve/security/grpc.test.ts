/** TLS, clients' certificates and tokens over gRPC. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import grpc from '@grpc/grpc-js';
import { readSecurity } from '../../../src/serve/security/security.ts';
import { authority, secretFile, signed } from '../../support/certificates.ts';
import { GrpcClient, grpcOutputs, grpcRefusal, inferMessage } from '../../support/grpc-client.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';
import { saidBy, serve } from '../../support/served.ts';
import { inOnePiece } from '../../support/serving-cases.ts';

const sent = inferMessage('rows', inOnePiece(saidBy(new Random(SEED), 3)));
const SOON = () => ({ deadline: Date.now() + 10_000 });

test('calls need the tokens that HTTP needs', async () => {
  const [token, admin] = ['a-token-of-clients', 'a-token-of-operators'];
  const { security } = await readSecurity({
    tokens: secretFile(`${token}\n`),
    adminTokens: secretFile(`${admin}\n`),
    origins: [],
  });
  await using served = await serve({ grpcPort: 0, security });
  using client = new GrpcClient(served.server.grpcPort as number);
  const as = (of: string | undefined, method: string, request: object = {}) =>
    client.call(method, request, {}, of === undefined ? {} : { authorization: `Bearer ${of}` });
  for (const method of ['ServerLive', 'ServerReady', 'Check']) await as(undefined, method);
  for (const method of [
    'ServerMetadata',
    'ModelInfer',
    'RepositoryIndex',
    'ModelStatistics',
    'RepositoryModelLoad',
  ])
    for (const wrong of [undefined, 'a-token-of-nobody', ''])
      assert.equal(await grpcRefusal(as(wrong, method)), 'UNAUTHENTICATED UNAUTHENTICATED', method);
  const load = { model_name: 'rows' };
  for (const method of ['RepositoryModelLoad', 'RepositoryModelUnload', 'Apply']) {
    assert.equal(await grpcRefusal(as(token, method, load)), 'PERMISSION_DENIED ADMIN_FORBIDDEN');
    assert.equal(
      await grpcRefusal(as('of-nobody-here-at-all', method, load)),
      'UNAUTHENTICATED UNAUTHENTICATED',
    );
  }
  for (const right of [token, admin]) {
    grpcOutputs(await as(right, 'ModelInfer', sent));
    assert.equal((await as(right, 'RepositoryIndex')).models.length, 1);
  }
});

test('TLS, with certificates of clients; half a handshake delays no end', async () => {
  const [own, stranger] = [authority(), authority()];
  const [server, client] = [signed(own), signed(own)];
  const { security } = await readSecurity({
    tls: { certificate: server.certFile, key: server.keyFile, clientAuthorities: own.certFile },
    origins: [],
  });
  const served = await serve({ grpcPort: 0, security });
  const port = served.server.grpcPort as number;
  const pem = Buffer.from;
  const credentials = (by: typeof own, certified?: typeof own) =>
    grpc.credentials.createSsl(
      pem(by.cert),
      certified === undefined ? null : pem(certified.key),
      certified === undefined ? null : pem(certified.cert),
    );
  {
    using good = new GrpcClient(port, {}, credentials(own, client));
    grpcOutputs(await good.call('ModelInfer', sent, SOON()));
    for (const bad of [
      credentials(own),
      credentials(own, signed(stranger)),
      credentials(stranger, client),
      grpc.credentials.createInsecure(),
    ]) {
      using other = new GrpcClient(port, {}, bad);
      await assert.rejects(other.call('ServerLive', {}, SOON()), { code: 14 });
    }
    grpcOutputs(await good.call('ModelInfer', sent, SOON()));
  }
  const half = connect(port, '127.0.0.1');
  half.on('error', () => {});
  half.write(Buffer.from([0x16, 0x03, 0x01]));
  const gone = new Promise((resolve) => half.once('close', resolve));
  await new Promise((resolve) => half.once('connect', resolve));
  await served.server.close();
  half.resume();
  await gone;
  assert.deepEqual(
    served.events.filter(({ kind }) => kind === 'error'),
    [],
  );
});
