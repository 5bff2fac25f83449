/** The picture of the server's page for the docs: `npm run build && npx tsx scripts/serving-screenshot.ts`. Needs Chromium. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { findChromium, launchChromium } from './chromium.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PICTURE = `${ROOT}docs/images/serving-page.png`;
const MAX_BYTES = 60_000;
/** Under load, and watched for some of that. */
const LOAD_SECONDS = 60;
const WATCHED_MS = 45_000;

const command = `${ROOT}/dist/cli/main.js`;
const executable = findChromium();
if (executable === undefined) throw new Error('no Chromium: set CHROMIUM, or install the package chromium');
const serve = ['serve', '--preset', 'quick', '--rows', '20000', '--threads', '1', '--port', '0'];
const server = spawn(process.execPath, [command, ...serve], { stdio: ['ignore', 'ignore', 'pipe'] });
try {
  let url = '';
  for await (const line of createInterface({ input: server.stderr })) {
    url = /listening on (\S+)/.exec(line)?.[1] ?? '';
    if (url !== '') break;
  }
  const traffic = ['--pattern', 'high_hot', '--samples', 'uniform:1:20', '--bag-lengths', '20'];
  const times = ['--rate', '50', '--duration', `${LOAD_SECONDS}s`];
  const load = spawn(process.execPath, [command, 'load', url, ...traffic, ...times], { stdio: 'ignore' });
  const browser = await launchChromium(executable);
  const page = await browser.newPage({ viewport: { width: 1240, height: 810 }, deviceScaleFactor: 0.6 });
  await page.goto(url);
  await sleep(WATCHED_MS);
  await page.screenshot({ path: PICTURE });
  await browser.close();
  load.kill();
  const { size } = statSync(PICTURE);
  if (size > MAX_BYTES) throw new Error(`${PICTURE} has ${size} bytes, more than ${MAX_BYTES}`);
  console.log(`${PICTURE}: ${size} bytes`);
} finally {
  server.kill();
  await once(server, 'exit');
}
