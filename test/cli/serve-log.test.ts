/** Lines of the log of `hotrow serve`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serveLog } from '../../src/cli/serve-log.ts';
import { DeviceError } from '../../src/errors.ts';

/** What `log` writes to standard error. */
function written(log: () => void): string {
  const { write } = process.stderr;
  let text = '';
  process.stderr.write = ((chunk: string) => {
    text += chunk;
    return true;
  }) as typeof write;
  try {
    log();
  } finally {
    process.stderr.write = write;
  }
  return text;
}

test('as text: a line for each event, with nothing in it that ends a line', () => {
  const log = serveLog('text');
  assert.match(
    written(() => log({ kind: 'listening', host: '::1', port: 8000, tls: true })),
    /listening on https:\/\/\[::1\]:8000\n$/,
  );
  assert.match(
    written(() => log({ kind: 'listening', host: '127.0.0.1', port: 8000, grpcPort: 8001, tls: false })),
    /listening on http:\/\/127\.0\.0\.1:8000, gRPC on 127\.0\.0\.1:8001\n$/,
  );
  assert.match(
    written(() => log({ kind: 'closed' })),
    /closed\n$/,
  );
  const error = new DeviceError('OUT_OF_MEMORY', 'no\nmore');
  assert.match(
    written(() => log({ kind: 'error', error })),
    /error\[OUT_OF_MEMORY\]: no.{1,6}more\n/,
  );
});

test('as JSON: each line is an object; progress is not logged', () => {
  const log = serveLog('json');
  const { time, ...line } = JSON.parse(
    written(() => log({ kind: 'listening', host: '127.0.0.1', port: 80, grpcPort: 81, tls: false })),
  );
  assert.ok(Date.parse(time) > 0);
  assert.deepEqual(line, {
    level: 'info',
    event: 'listening',
    message: 'listening on http://127.0.0.1:80, gRPC on 127.0.0.1:81',
    port: 80,
    grpcPort: 81,
  });
  const error = new DeviceError('OUT_OF_MEMORY', 'no more');
  const failed = JSON.parse(written(() => log({ kind: 'error', error })));
  assert.deepEqual([failed.level, failed.event, failed.message], ['error', 'error', 'no more']);
  assert.equal(
    written(() => log({ kind: 'loading', model: 'm', device: 'cpu', text: 'x' })),
    '',
  );
});
