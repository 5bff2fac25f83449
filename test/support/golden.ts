/** Where golden files are: the shared folder, or the part of it that is committed. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { HOTROW_SHARED } = process.env;

const FOLDERS = [
  ...(HOTROW_SHARED ? [join(HOTROW_SHARED, 'golden')] : []),
  join(root, '..', 'shared', 'golden'),
  join(root, 'test', 'fixtures', 'golden'),
];

/** The golden file `name`; undefined: this machine does not have it, and the test is skipped. */
export function goldenPath(name: string): string | undefined {
  return FOLDERS.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

const TRACE_FOLDERS = [
  ...(HOTROW_SHARED ? [join(HOTROW_SHARED, 'traces')] : []),
  join(root, '..', 'shared', 'traces'),
];

/** The recorded trace `name`; undefined: this machine does not have it, and the test is skipped. */
export function tracePath(name: string): string | undefined {
  return TRACE_FOLDERS.map((folder) => join(folder, name)).find((path) => existsSync(path));
}
