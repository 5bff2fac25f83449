/** The command's security: where it listens by default, and what it reads again. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { secretFile } from '../support/certificates.ts';
import { Client } from '../support/http-client.ts';
import { SERVING_COMMAND } from '../support/served.ts';

/** Addresses that a process listens on, as Linux writes them: bytes of 32-bit words in reverse. */
function listensOn(pid: number): string[] {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`))
    try {
      inodes.add(readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/^socket:\[(\d+)\]$/, '$1'));
    } catch {
      // It was closed meanwhile.
    }
  const LISTEN = '0A';
  return ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter(([, , , state, , , , , , inode]) => state === LISTEN && inodes.has(inode ?? ''))
      .map(([, local = '']) => local.split(':')[0] ?? ''),
  );
}

describe('the command', {
  skip: process.platform === 'linux' ? false : 'only Linux lists what a process has',
}, () => {
  const small = ['--preset', 'quick', '--tables', '1', '--rows', '100', '--device', 'cpu', '--threads', '1'];

  async function started(...options: string[]): Promise<{ child: ChildProcess; log: () => string }> {
    const [program, main] = SERVING_COMMAND;
    const child = spawn(program, [main, 'serve', ...small, '--port', '0', ...options], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    child.stderr.setEncoding('utf8');
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (text: string) => {
        log += text;
        if (/listening on /.test(log)) resolve();
      });
      child.once('close', () => reject(new Error(log)));
    });
    return { child, log: () => log };
  }

  test('listens on loopback alone, by default', async () => {
    const { child } = await started('--grpc-port', '0');
    const addresses = listensOn(child.pid as number);
    assert.deepEqual(addresses, ['0100007F', '0100007F']);
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'close'), [0, null]);
  });

  test('takes an address of IPv6 as URLs have it', async () => {
    const { child, log } = await started('--host', '[::1]');
    assert.deepEqual(listensOn(child.pid as number), ['00000000000000000000000001000000']);
    assert.match(log(), /listening on http:\/\/\[::1\]:\d/);
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'close'), [0, null]);
  });

  test('a folder for traffic that cannot be made ends it', async () => {
    await assert.rejects(started('--record-traffic', '/proc/none/of/this'), /FILE_UNWRITABLE/);
  });

  test('SIGHUP reads files again; where they are wrong, the server goes on as before', async () => {
    const file = secretFile('token-of-a-client');
    const { child, log } = await started('--token-file', file, '--log', 'json');
    const port = Number(/:(\d+)"/.exec(log())?.[1]);
    using own = new Client(port);
    const statusOf = async (token: string) =>
      (await own.ask('GET', '/v2', undefined, { authorization: `Bearer ${token}` })).status;
    assert.equal(await statusOf('token-of-a-client'), 200);
    writeFileSync(file, 'short');
    child.kill('SIGHUP');
    while (!/"event":"error"/.test(log())) await once(child.stderr as NodeJS.ReadableStream, 'data');
    assert.match(log(), /line 1 is no token/);
    assert.equal(await statusOf('token-of-a-client'), 200);
    writeFileSync(file, 'token-of-tomorrow');
    child.kill('SIGHUP');
    while ((await statusOf('token-of-tomorrow')) !== 200);
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'close'), [0, null]);
  });
});
