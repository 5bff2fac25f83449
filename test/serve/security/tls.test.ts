/** Certificates and keys: what is refused before anything listens. */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { test } from 'node:test';
import { FormatError, UsageError } from '../../../src/errors.ts';
import { readTls } from '../../../src/serve/security/tls.ts';
import { authority, secretFile, signed } from '../../support/certificates.ts';

const DAY_MS = 86_400_000;
const root = authority();
const server = signed(root, { days: 30 });
const files = { certificate: server.certFile, key: server.keyFile };

const refused = (given: typeof files, message: RegExp, now?: number) =>
  assert.rejects(readTls(given, now), (error) => {
    assert.ok(error instanceof FormatError);
    assert.equal(error.code, 'CERTIFICATE_INVALID');
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /PRIVATE KEY-/);
    return true;
  });

test('a chain and its key are taken as they are', async () => {
  const chain = secretFile(server.cert + root.cert);
  const { material, warnings } = await readTls({
    ...files,
    certificate: chain,
    clientAuthorities: root.certFile,
  });
  assert.equal(material.cert, server.cert + root.cert);
  assert.equal(material.key, server.key);
  assert.equal(material.ca, root.cert);
  assert.ok(Math.abs(material.expiresMs - Date.now() - 30 * DAY_MS) < DAY_MS);
  assert.deepEqual(warnings, []);
});

test('what is no certificate, or not its key, is refused by name', async () => {
  await refused({ ...files, certificate: secretFile('nothing') }, /secret-\d+ holds no certificate in PEM/);
  const damaged = secretFile('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
  await refused({ ...files, certificate: damaged }, /cannot be read/);
  await refused({ ...files, key: secretFile('nothing') }, /holds no private key in PEM/);
  await refused({ ...files, key: server.certFile }, /holds no private key in PEM/);
  await refused({ ...files, key: signed(root).keyFile }, /is not the key of the first certificate in/);
  await refused(
    { ...files, certificate: secretFile(root.cert + server.cert) },
    /is not the key of the first/,
  );
  const encrypted = '-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n';
  await refused({ ...files, key: secretFile(encrypted) }, /is encrypted/);
  await refused({ ...files, certificate: secretFile('x'.repeat((1 << 20) + 1)) }, /more than the 1048576/);
  const noCa = { ...files, clientAuthorities: secretFile('') };
  await refused(noCa, /holds no certificate/);
  await assert.rejects(readTls({ ...files, key: '/nonexistent' }), UsageError);
});

test('one that has expired or is not valid yet is refused, in the chain too; one that soon expires is told', async () => {
  const now = Date.now();
  await refused(files, /holds a certificate of CN=signed-\d+, which expired on/, now + 31 * DAY_MS);
  await refused(files, /is not valid before/, now - DAY_MS);
  const old = signed(root, { days: -1 });
  await refused({ certificate: old.certFile, key: old.keyFile }, /expired on/);
  await refused({ ...files, certificate: secretFile(server.cert + old.cert) }, /expired on/);
  const { warnings } = await readTls(files, now + 20 * DAY_MS);
  assert.match(warnings.join(), /^[^,]* expires in (9|10) days$/);
});

test('a key that others may read is told', async () => {
  for (const [mode, told] of [
    [0o600, 0],
    [0o640, 0],
    [0o604, 1],
    [0o620, 1],
  ] as const) {
    chmodSync(server.keyFile, mode);
    const { warnings } = await readTls(files);
    assert.equal(warnings.length, told, mode.toString(8));
  }
  chmodSync(server.keyFile, 0o600);
});
