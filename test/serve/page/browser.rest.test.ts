/** The server's page in a browser: its figures against the metrics, and how it holds up in every scheme and size. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { findChromium, launchChromium } from '../../../scripts/chromium.ts';
import { significant } from '../../../src/numbers.ts';
import { readSecurity } from '../../../src/serve/security/security.ts';
import { secretFile } from '../../support/certificates.ts';
import { Client } from '../../support/http-client.ts';
import { protocolBody } from '../../support/infer-bodies.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';
import { idsModel, rowsModel, type Served, saidBy, serve } from '../../support/served.ts';
import { inOnePiece } from '../../support/serving-cases.ts';

const executable = findChromium();
const skip = executable === undefined ? 'no Chromium: set CHROMIUM, or install the package chromium' : false;
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const TOKEN = 'a-token-of-some-client';
/** Were it markup, the policy would have the console tell of it. */
const OTHER = 'of <img src=x> ids';
const GOOD = 40;
const SAMPLES = 3;

/** What runs in the page. */
const OPEN_DETAILS = 'for (const details of document.querySelectorAll("details")) details.open = true';
const AXE_RUN = `axe.run().then(({ violations }) =>
  violations.map(({ id, nodes }) => [id, nodes[0].html.slice(0, 200), nodes[0].failureSummary].join(': ')))`;
const EXTENTS = `[document.documentElement.scrollWidth,
  ...[...document.querySelectorAll('svg')].map((chart) => Math.ceil(chart.getBoundingClientRect().right))]`;

/** A quantile of a histogram in the text of the metrics, ms, as PromQL's histogram_quantile has it. */
function quantileIn(metrics: string, series: string, q: number): number {
  const buckets = [...metrics.matchAll(/^(\w+)_bucket\{(.*),le="(.+)"\} (\d+)$/gm)]
    .filter(([, name, labels]) => `${name}{${labels}}` === series)
    .map(([, , , le, count]) => [le === '+Inf' ? Infinity : Number(le), Number(count)] as const);
  const rank = q * (buckets.at(-1)?.[1] ?? 0);
  const found = buckets.findIndex(([, count]) => count >= rank);
  const [bound, count] = buckets[found] ?? [Number.NaN, Number.NaN];
  const [low, below] = buckets[found - 1] ?? [0, 0];
  return 1000 * (low + ((bound - low) * (rank - below)) / (count - below));
}

describe('the page in Chromium', { skip }, () => {
  let browser: Browser;
  let served: Served;
  let client: Client;
  let axe: string;
  let origin: string;
  before(async () => {
    const { security } = await readSecurity({ origins: [], tokens: secretFile(TOKEN) });
    [browser, served, axe] = await Promise.all([
      launchChromium(executable as string),
      serve({ security, models: { rows: rowsModel, [OTHER]: idsModel } }),
      readFile(AXE, 'utf8'),
    ]);
    client = new Client(served.port);
    origin = `http://127.0.0.1:${served.port}`;
    const { body, jsonLength = '' } = protocolBody(inOnePiece(saidBy(new Random(SEED), SAMPLES)));
    const ask = (model: string) =>
      client.ask('POST', `/v2/models/${model}/infer`, body, {
        ...withToken,
        'inference-header-content-length': jsonLength,
      });
    for (let i = 0; i < GOOD; i++) assert.equal((await ask('rows')).status, 200);
    assert.equal((await ask(encodeURIComponent(OTHER))).status, 400);
  });
  after(async () => {
    await browser?.close();
    client?.[Symbol.dispose]();
    await served?.[Symbol.asyncDispose]();
  });
  const withToken = { authorization: `Bearer ${TOKEN}` };

  /** The page, opened; `work`'s errors on the console and requests elsewhere fail the test. */
  async function open<T>(
    {
      width = 1280,
      scheme = 'light',
      token = TOKEN,
      hash = '',
    }: {
      readonly width?: number;
      readonly scheme?: 'light' | 'dark';
      /** Empty: none. */
      readonly token?: string;
      readonly hash?: string;
    },
    work: (page: Page) => Promise<T>,
  ): Promise<T> {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: scheme });
    const messages: string[] = [];
    const requests = new Set<string>();
    page.on('console', (message) => messages.push(message.text()));
    page.on('pageerror', (error) => messages.push(error.message));
    page.on('request', (request) => requests.add(request.url()));
    try {
      if (token !== '') await page.addInitScript(`sessionStorage.setItem('hotrow-token', '${token}')`);
      await page.goto(`${origin}/${hash}`);
      if (token !== '') await page.locator('#live').waitFor();
      const result = await work(page);
      assert.deepEqual([...requests], [`${origin}/`, `${origin}/v2/events`], 'no other request');
      // Chromium itself tells of a request that was refused.
      const own = messages.filter((message) => token !== '' || !/\b401\b/.test(message));
      assert.deepEqual(own, [], 'nothing on the console');
      return result;
    } finally {
      await page.close();
    }
  }

  const figure = (page: Page, key: string) => page.locator(`[data-figure="${key}"]`).textContent();

  test('figures are those of the metrics', async () => {
    const shown = await open({}, async (page) => {
      // There is something recent with the second event.
      await page.locator('[data-figure="request-rate"]:not(:text("–"))').waitFor();
      const keys = ['ok', 'bad_request', 'samples', 'batches', 'p50', 'p99', 'p999'];
      const totals = await Promise.all(keys.map((key) => figure(page, `total-${key}`)));
      const others = ['version', 'state', 'queue-requests', 'queue-samples', 'strays', 'device'];
      return [...totals, ...(await Promise.all(others.map((key) => figure(page, key))))];
    });
    const metrics = (await client.ask('GET', '/metrics', undefined, withToken)).body.toString();
    const value = (series: string) =>
      Number(new RegExp(`^${series.replace(/[{}]/g, '\\$&')} (\\S+)$`, 'm').exec(metrics)?.[1]);
    const answered = 'hotrow_request_duration_seconds{model="rows",result="ok"}';
    const counted = [
      'hotrow_requests_total{model="rows",protocol="http",outcome="ok"}',
      'hotrow_requests_total{model="rows",protocol="http",outcome="bad_request"}',
      'hotrow_samples_total{model="rows"}',
      'hotrow_batches_total{model="rows"}',
    ].map((series) => String(value(series)));
    assert.deepEqual(counted.slice(0, 3), [String(GOOD), '0', String(GOOD * SAMPLES)]);
    const times = [0.5, 0.99, 0.999].map((q) => `${significant(quantileIn(metrics, answered, q))} ms`);
    const device = shown.pop();
    assert.match(device ?? '', /^cpu: ./);
    assert.deepEqual(shown, [...counted, ...times, '1', 'ready', '0', '0', '0']);
  });

  test('the models can be told apart', async () => {
    const [refused, name, option] = await open({}, async (page) => {
      await page.locator('#model').selectOption(OTHER);
      await page.locator('h1', { hasText: OTHER }).waitFor();
      const totals = [await figure(page, 'total-bad_request'), await page.locator('h1').textContent()];
      return [...totals, await page.evaluate('location.hash')];
    });
    assert.deepEqual([refused, name, option], ['1', OTHER, `#${encodeURIComponent(OTHER)}`]);
    const again = await open({ hash: `#${encodeURIComponent(OTHER)}` }, (page) =>
      page.locator('h1').textContent(),
    );
    assert.equal(again, OTHER);
  });

  test('a token is asked for until it is right', async () => {
    await open({ token: '' }, async (page) => {
      const status = page.locator('#status');
      await page.locator('#ask').waitFor();
      assert.equal(await status.textContent(), 'The server wants a token.');
      assert.equal(await page.locator('#live').isVisible(), false);
      await page.locator('#token').fill('of somebody else');
      await page.locator('#ask button').click();
      await page.locator('#status', { hasText: 'does not know' }).waitFor();
      await page.locator('#token').fill(TOKEN);
      await page.locator('#token').press('Enter');
      await page.locator('#live').waitFor();
      assert.equal(await page.locator('#ask').isVisible(), false);
    });
  });

  for (const scheme of ['light', 'dark'] as const)
    for (const width of [360, 1280])
      test(`axe finds nothing to complain about, and nothing sticks out: ${scheme}, ${width} px`, async () => {
        const [violations, extents] = await open({ scheme, width }, async (page) => {
          await page.locator('#requests svg[role=img]').waitFor();
          // What is closed is not checked.
          await page.evaluate(OPEN_DETAILS);
          await page.evaluate(axe);
          return [await page.evaluate(AXE_RUN), (await page.evaluate(EXTENTS)) as number[]] as const;
        });
        assert.deepEqual(violations, []);
        assert.ok(extents.length > 6, 'charts');
        assert.ok(Math.max(...extents) <= width, `${extents}`);
      });
});
