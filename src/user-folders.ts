/** Folders of the user's, as the XDG base directory specification says: a variable counts only when it is absolute. */
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

function folder(given: string | undefined, fallback: readonly string[], parts: readonly string[]): string {
  const base = given !== undefined && isAbsolute(given) ? given : join(homedir(), ...fallback);
  return join(base, 'hotrow', ...parts);
}

/** $XDG_CACHE_HOME/hotrow/…, or ~/.cache/hotrow/…: what can be made again. */
export function cacheFolder(parts: readonly string[], environment: NodeJS.ProcessEnv = process.env): string {
  return folder(environment.XDG_CACHE_HOME, ['.cache'], parts);
}

/** $XDG_DATA_HOME/hotrow/…, or ~/.local/share/hotrow/…: what is the user's. */
export function dataFolder(parts: readonly string[], environment: NodeJS.ProcessEnv = process.env): string {
  return folder(environment.XDG_DATA_HOME, ['.local', 'share'], parts);
}
