import { readFileSync } from 'node:fs';
import { packageFile } from './package-file.ts';

/** Hotrow's version, from package.json. */
export const version: string = (
  JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }
).version;
