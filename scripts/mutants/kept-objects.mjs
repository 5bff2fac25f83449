// A C compiler that keeps its objects: node kept-objects.mjs FOLDER CC ARGUMENT…. What is not compiled (-c) is passed on.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

const [folder, compiler, ...args] = process.argv.slice(2);

function pass() {
  const { status } = spawnSync(compiler, args, { stdio: 'inherit' });
  return status ?? 1;
}

/** What a compilation's object depends on; undefined: this is none, or the source is wrong. */
function keyOf() {
  const at = args.indexOf('-o');
  if (!args.includes('-c') || at < 0) return undefined;
  const without = args.filter((arg, i) => arg !== '-c' && i !== at && i !== at + 1);
  const { status, stdout } = spawnSync(compiler, [...without, '-E', '-P'], { maxBuffer: 1 << 28 });
  if (status !== 0) return undefined;
  const flags = without.filter((arg) => !arg.endsWith('.c'));
  return createHash('sha256').update(JSON.stringify(flags)).update(stdout).digest('hex');
}

const key = keyOf();
if (key === undefined) process.exit(pass());
const kept = join(folder, `${key}.o`);
const object = args[args.indexOf('-o') + 1];
if (!existsSync(kept)) {
  const status = pass();
  if (status !== 0) process.exit(status);
  mkdirSync(folder, { recursive: true });
  copyFileSync(object, kept);
} else copyFileSync(kept, object);
