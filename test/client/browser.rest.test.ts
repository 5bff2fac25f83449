/** The client in a browser, on a page of another origin than the server's. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Browser } from 'playwright-core';
import { findChromium, launchChromium } from '../../scripts/chromium.ts';
import { Client } from '../../src/client/client.ts';
import { readSecurity } from '../../src/serve/security/security.ts';
import { secretFile } from '../support/certificates.ts';
import { NAMES } from '../support/request-forms.ts';
import { type Served, serve } from '../support/served.ts';

const executable = findChromium();
const skip = executable === undefined ? 'no Chromium: set CHROMIUM, or install the package chromium' : false;
const TOKEN = 'token-of-a-client';
const REQUEST = { dense: [1, 2], features: Object.fromEntries(NAMES.map((name) => [name, [[1, 0]]])) };

/** A page that has the client at /client.js, on a free port. */
async function pageServer(client: string): Promise<{ server: Server; origin: string }> {
  const server = createServer(({ url }, response) => {
    const isScript = url === '/client.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? client : '<!doctype html><title>page</title>');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

describe('in Chromium', { skip }, () => {
  let browser: Browser;
  let served: Served;
  let pages: Awaited<ReturnType<typeof pageServer>>;
  let strangers: Awaited<ReturnType<typeof pageServer>>;
  before(async () => {
    const entry = fileURLToPath(new URL('../../src/client/client.ts', import.meta.url));
    const bundled = await build({
      entryPoints: [entry],
      bundle: true,
      format: 'esm',
      platform: 'browser',
      write: false,
    });
    const client = bundled.outputFiles[0]?.text ?? '';
    [pages, strangers] = await Promise.all([pageServer(client), pageServer(client)]);
    const { security } = await readSecurity({ origins: [pages.origin], tokens: secretFile(TOKEN) });
    served = await serve({ security });
    browser = await launchChromium(executable as string);
  });
  after(async () => {
    await browser?.close();
    for (const own of [pages, strangers]) own?.server.close();
    await served?.[Symbol.asyncDispose]();
  });

  /** What a page gets: its answer, or the error's class, code and message. */
  async function asked(origin: string, token: string, call: string): Promise<unknown> {
    const page = await browser.newPage();
    try {
      await page.goto(origin);
      const url = `http://127.0.0.1:${served.port}`;
      return await page.evaluate(`(async () => {
        const { Client, ServerError } = await import('/client.js');
        const client = new Client(${JSON.stringify(url)}, { token: ${JSON.stringify(token)}, retries: 0 });
        try {
          return await (${call})(client);
        } catch (error) {
          return [error instanceof ServerError, error.code, error.hint];
        }
      })()`);
    } finally {
      await page.close();
    }
  }

  test('a page of a named origin gets what Node gets', async () => {
    const { scores } = await new Client(`http://127.0.0.1:${served.port}`, { token: TOKEN }).predict(
      'rows',
      REQUEST,
    );
    const call = `async (client) => {
      const { scores, outputs } = await client.predict('rows', JSON.parse(${JSON.stringify(JSON.stringify(REQUEST))}), { timeoutMs: 60_000 });
      return [await client.ready(), [...scores], outputs.probability.shape, (await client.models()).length];
    }`;
    assert.deepEqual(await asked(pages.origin, TOKEN, call), [true, [...scores], [1, 1], 1]);
  });

  test('errors say what the server says', async () => {
    const call = `(client) => client.predict('rows', { dense: [1, 2], features: {} , batchSize: 1 })`;
    const [isServer, code] = (await asked(pages.origin, TOKEN, call)) as [boolean, string];
    assert.deepEqual([isServer, code], [true, 'TABLE_MISSING']);
    const [, refused] = (await asked(pages.origin, 'of-somebody-else-', call)) as [boolean, string];
    assert.equal(refused, 'UNAUTHENTICATED');
  });

  test('a page of another origin gets nothing', async () => {
    const [isServer, code] = (await asked(strangers.origin, TOKEN, '(client) => client.models()')) as [
      boolean,
      string,
    ];
    assert.deepEqual([isServer, code], [false, 'SERVER_UNREACHABLE']);
  });
});
