/** Pictures of reports for the docs: `npx tsx scripts/report-screenshots.ts`. Needs Chromium. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { renderReport } from '../src/report/page.ts';
import { parseResults } from '../src/report/read-results.ts';
import { findChromium, launchChromium } from './chromium.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MAX_BYTES = 200_000;

/** What each picture shows: a recorded run from the top of one of its elements on. */
const PICTURES = [
  {
    name: 'report-light',
    results: 'h200-paper',
    from: '#run-1 .findings',
    scheme: 'light',
    width: 1100,
    height: 740,
  },
  {
    name: 'report-dark',
    results: 'h200-paper-sweeps',
    from: '#run-1-sweep-prefetch',
    scheme: 'dark',
    width: 1200,
    height: 720,
  },
  {
    name: 'report-counters',
    results: 'h200-counters',
    from: '#run-1 .findings',
    scheme: 'light',
    width: 1100,
    height: 900,
  },
  {
    name: 'report-phone',
    results: 'cpu-zen5-quick',
    from: '#run-1-model',
    scheme: 'light',
    width: 360,
    height: 740,
  },
] as const;

const executable = findChromium();
if (executable === undefined) throw new Error('no Chromium: set CHROMIUM, or install the package chromium');
const folder = mkdtempSync(join(tmpdir(), 'hotrow-screenshots-'));
mkdirSync(`${ROOT}/docs/images`, { recursive: true });
const browser = await launchChromium(executable);
try {
  for (const { name, results, from, scheme, width, height } of PICTURES) {
    const recorded: unknown = JSON.parse(readFileSync(`${ROOT}/bench/results/${results}.json`, 'utf8'));
    const file = join(folder, 'page.html');
    writeFileSync(file, renderReport([parseResults(recorded)]));
    const page = await browser.newPage({ viewport: { width, height }, colorScheme: scheme });
    await page.goto(pathToFileURL(file).href);
    await page.locator(from).evaluate((element) => element.scrollIntoView({ behavior: 'instant' }));
    const path = `${ROOT}/docs/images/${name}.png`;
    await page.screenshot({ path });
    await page.close();
    const { size } = statSync(path);
    if (size > MAX_BYTES) throw new Error(`${path} has ${size} bytes, more than ${MAX_BYTES}`);
    console.log(`${path}: ${size} bytes`);
  }
} finally {
  await browser.close();
  rmSync(folder, { recursive: true });
}
