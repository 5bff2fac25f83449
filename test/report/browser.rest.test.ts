/** The page in a browser: what it shows against the results, and how it holds up in every scheme and size. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { findChromium, launchChromium } from '../../scripts/chromium.ts';
import { launchPerTable } from '../../src/bench/comparison.ts';
import type { BenchResults } from '../../src/bench/results.ts';
import { hasStages } from '../../src/bench/results.ts';
import { renderReport } from '../../src/report/page.ts';
import { recordedBench, recordedCharacterization, smallCharacterization } from './results.ts';

const executable = findChromium();
const skip = executable === undefined ? 'no Chromium: set CHROMIUM, or install the package chromium' : false;
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** What runs in the page. */
const OPEN_DETAILS = 'for (const details of document.querySelectorAll("details")) details.open = true';
const AXE_RUN = `axe.run().then(({ violations }) =>
  violations.map(({ id, nodes }) => [id, nodes[0].html.slice(0, 200), nodes[0].failureSummary].join(': ')))`;
const EXTENTS = `({
  page: document.documentElement.scrollWidth,
  charts: [...document.querySelectorAll('.panel svg')].map((chart) => chart.getBoundingClientRect().right),
})`;
/** The least contrasts (WCAG 2) of texts and of bars in charts with the page. */
const CONTRASTS = `(() => {
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((channel) => channel / 255)
      .map((channel) => channel <= 0.03928 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const ground = luminance(getComputedStyle(document.body).backgroundColor);
  const least = (selector) => Math.min(...[...document.querySelectorAll(selector)].map((element) => {
    const own = luminance(getComputedStyle(element).fill);
    return own > ground ? own / ground : ground / own;
  }));
  return { text: least('svg text'), marks: least('rect.bar, .legend rect') };
})()`;

function withHotness(results: BenchResults): BenchResults {
  const points = [1, 10, 100, 1000].map((rows): [number, number] => [rows, Math.log10(rows) / 3]);
  return { ...results, hotness: [{ pattern: 'random', points }] };
}

const H200 = ['h200-paper.json', 'h200-paper-traces.json', 'h200-paper-sweeps.json'].map(recordedBench);
const EVERYTHING = [
  ...H200,
  recordedCharacterization('h200-counters.json'),
  withHotness(recordedBench('cpu-zen5-quick.json')),
  smallCharacterization(),
];

describe('the page in Chromium', { skip }, () => {
  let browser: Browser;
  let folder = '';
  let url = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hotrow-page-'));
    const file = join(folder, 'page.html');
    await writeFile(file, renderReport(EVERYTHING));
    url = pathToFileURL(file).href;
    browser = await launchChromium(executable as string);
  });
  after(async () => {
    await browser?.close();
    await rm(folder, { recursive: true });
  });

  /** The page, opened; `work`'s errors on the console and requests past the file fail the test. */
  async function open<T>(
    options: { readonly width?: number; readonly scheme?: 'light' | 'dark'; readonly address?: string },
    work: (page: Page) => Promise<T>,
  ): Promise<T> {
    const page = await browser.newPage({
      viewport: { width: options.width ?? 1280, height: 900 },
      colorScheme: options.scheme ?? 'light',
    });
    const messages: string[] = [];
    const requests: string[] = [];
    page.on('console', (message) => messages.push(message.text()));
    page.on('pageerror', (error) => messages.push(error.message));
    page.on('request', (request) => requests.push(request.url()));
    try {
      await page.goto(options.address ?? url);
      const result = await work(page);
      assert.deepEqual(messages, [], 'nothing on the console');
      assert.deepEqual(requests, [options.address ?? url], 'no other request');
      return result;
    } finally {
      await page.close();
    }
  }

  test('bars are as long as the results say', async (t) => {
    const results = recordedBench('h200-paper.json');
    const began = performance.now();
    const widths = await open({}, (page) => {
      t.diagnostic(`opened in ${(performance.now() - began).toFixed(0)} ms`);
      return page
        .locator('#run-1-speedup svg')
        .evaluateAll((charts) =>
          charts.map((chart) =>
            [...chart.querySelectorAll('rect.bar')].map((bar) => Number(bar.getAttribute('width'))),
          ),
        );
    });
    const patterns = [...new Set(results.embedding.map(({ pattern }) => pattern))];
    assert.equal(widths.length, patterns.length);
    const plain = widths[0]?.[0] as number;
    for (const [p, pattern] of patterns.entries()) {
      const rows = results.embedding.filter((row) => row.pattern === pattern);
      assert.equal(widths[p]?.length, rows.length);
      for (const [i, { speedup }] of rows.entries()) {
        // Lengths are rounded to a tenth of a unit.
        const width = widths[p]?.[i] as number;
        assert.ok(Math.abs(width / plain - speedup) < 0.2 / plain + 1e-3 * speedup, `${pattern} ${i}`);
      }
    }
  });

  test('the stages of the whole model add up to the length of their bars', async () => {
    const model = recordedBench('cpu-zen5-quick.json').model.filter(hasStages);
    const id = await open({}, (page) =>
      page
        .locator('article', { has: page.locator('text=quick benchmark') })
        .locator('figure[id$="-model"] g')
        .evaluateAll((bars) =>
          bars.map((bar) =>
            [...bar.querySelectorAll('rect.bar')].map((part) => Number(part.getAttribute('width'))),
          ),
        ),
    );
    assert.equal(id.length, model.length);
    const unit = (id[0]?.[0] as number) / (model[0]?.embeddingMs as number);
    for (const [i, row] of model.entries()) {
      const stages = [row.embeddingMs, row.bottomMs, row.interactionMs, row.topMs, row.copyMs, row.hostMs];
      for (const [s, stage] of stages.entries())
        assert.ok(Math.abs((id[i]?.[s] as number) / unit - stage) < 0.02 * stage + 0.3 / unit, `${i} ${s}`);
    }
  });

  test('lines go through the points of the sweep, in its order', async () => {
    const results = recordedBench('h200-paper-sweeps.json');
    const rows = results.embedding.filter(
      ({ sweep, variant, pattern }) =>
        sweep === 'prefetch' && pattern === 'random' && /^standard( \+ RPF d\d+)?$/.test(variant),
    );
    const heights = await open({}, (page) =>
      page
        .locator('#run-3-sweep-prefetch .panel')
        .first()
        .evaluate((panel) => {
          const line = [...panel.querySelectorAll('g')].find((group) =>
            group.textContent?.startsWith('random'),
          );
          return [...(line?.querySelectorAll('path[transform]') ?? [])].map((marker) =>
            Number(marker.getAttribute('transform')?.match(/,([\d.]+)/)?.[1]),
          );
        }),
    );
    assert.equal(heights.length, rows.length);
    const times = rows.map(({ launch }) => Math.log(launch?.medianUs as number));
    const [first, second] = [0, 3];
    const scale =
      ((heights[second] as number) - (heights[first] as number)) /
      ((times[second] as number) - (times[first] as number));
    assert.ok(scale < 0, 'more is higher');
    for (const [i, time] of times.entries()) {
      const expected = (heights[first] as number) + scale * (time - (times[first] as number));
      assert.ok(Math.abs((heights[i] as number) - expected) < 0.5, `point ${i}`);
    }
  });

  test('the table behind a chart holds every row of the results', async () => {
    const { embedding } = recordedBench('h200-paper.json');
    const cells = await open({}, async (page) => {
      await page.locator('#run-1-launch-speedup summary').click();
      const rows = page.locator('#run-1-launch-speedup tbody tr');
      assert.ok(await rows.first().isVisible());
      return rows.evaluateAll((own) => own.map((row) => [...row.children].map((cell) => cell.textContent)));
    });
    assert.equal(cells.length, embedding.length);
    for (const [i, row] of embedding.entries()) {
      assert.equal(cells[i]?.[0], row.pattern);
      assert.ok(Math.abs(Number(cells[i]?.[2]) - (launchPerTable(row)?.medianUs as number)) <= 0.5);
    }
  });

  for (const scheme of ['light', 'dark'] as const) {
    test(`axe finds nothing to complain about, ${scheme}`, async () => {
      const source = await readFile(AXE, 'utf8');
      const violations = await open({ scheme }, async (page) => {
        // What is closed is not checked.
        await page.evaluate(OPEN_DETAILS);
        await page.evaluate(source);
        return (await page.evaluate(AXE_RUN)) as string[];
      });
      assert.deepEqual(violations, []);
    });

    test(`text in charts stands out from the page, ${scheme}`, async () => {
      const ratios = (await open({ scheme }, (page) => page.evaluate(CONTRASTS))) as Record<
        'text' | 'marks',
        number
      >;
      assert.ok(ratios.text >= 4.5, `text: ${ratios.text}`);
      assert.ok(ratios.marks >= 3, `marks: ${ratios.marks}`);
    });
  }

  for (const width of [360, 768, 1280]) {
    test(`nothing sticks out at ${width} px, and charts fit`, async () => {
      const found = (await open({ width }, async (page) => {
        await page.evaluate(OPEN_DETAILS);
        return page.evaluate(EXTENTS);
      })) as { readonly page: number; readonly charts: readonly number[] };
      assert.ok(found.page <= width, `the page is ${found.page} px wide`);
      assert.ok(found.charts.length > 50);
      assert.ok(Math.max(...found.charts) <= width);
    });
  }

  test('texts of bars run neither into the bars nor out of the chart', async () => {
    const wrong = await open({}, (page) =>
      page.locator('.panel g:has(> text.label)').evaluateAll((bars) =>
        bars
          .filter((bar) => {
            const chart = bar.closest('svg')?.getBoundingClientRect();
            const [label, value] = [...bar.querySelectorAll('text')].map((text) =>
              text.getBoundingClientRect(),
            );
            if (chart === undefined || label === undefined || value === undefined) return true;
            const ends = [...bar.querySelectorAll('.bar')].map((part) => part.getBoundingClientRect().right);
            return label.right > chart.right || Math.max(...ends) > value.left;
          })
          .map((bar) => bar.textContent),
      ),
    );
    assert.deepEqual(wrong, []);
  });

  test('scripts in names do not run', async () => {
    const hostile = recordedBench('cpu-zen5-quick.json');
    const script = '<img src=x onerror="document.title=1"><script>document.title = "1"</script>';
    hostile.notes.push(script);
    for (const row of hostile.embedding) if (row.pattern === 'random') row.pattern = script;
    const file = join(folder, 'hostile.html');
    await writeFile(file, renderReport([hostile]));
    const title = await open({ address: pathToFileURL(file).href }, (page) => page.title());
    assert.match(title, /^Hotrow report/);
  });

  test('on paper every chart is there, in the light colours', async () => {
    const { ground, hidden, charts } = await open({ scheme: 'dark' }, async (page) => {
      await page.emulateMedia({ media: 'print' });
      const boxes = await page
        .locator('.panel svg')
        .evaluateAll((own) => own.map((chart) => chart.getBoundingClientRect().height));
      return {
        ground: await page.evaluate(
          "getComputedStyle(document.documentElement).getPropertyValue('--surface').trim()",
        ),
        charts: boxes.length,
        hidden: boxes.filter((height) => height === 0).length,
      };
    });
    assert.equal(ground, '#ffffff');
    assert.ok(charts > 50);
    assert.equal(hidden, 0);
  });
});
