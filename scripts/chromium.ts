/** Headless Chromium, where there is one. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';

/** $CHROMIUM, Debian's path, or the first of its names on PATH; undefined: there is none. */
export function findChromium(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const folders = (environment.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  const onPath = folders.flatMap((folder) =>
    ['chromium', 'chromium-browser'].map((name) => join(folder, name)),
  );
  return [environment.CHROMIUM, '/usr/bin/chromium', ...onPath].find(
    (path) => path !== undefined && path !== '' && existsSync(path),
  );
}

/** Root may not use Chromium's sandbox; the pages are our own. */
export function launchChromium(executablePath: string): Promise<Browser> {
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return chromium.launch({ executablePath, args });
}
