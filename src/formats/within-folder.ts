import { isAbsolute, normalize, sep, win32 } from 'node:path';

/** `name`, a file that another one names, in its plainest form; undefined when it lies outside of that one's folder. */
export function withinFolder(name: string): string | undefined {
  const plain = normalize(name);
  const outside =
    plain === '..' || plain.startsWith(`..${sep}`) || isAbsolute(plain) || win32.isAbsolute(plain);
  return outside || plain === '.' || plain.includes('\0') ? undefined : plain;
}
