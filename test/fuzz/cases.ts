/** A process that reads changed files of families, one by one, and says what became of each: cases.ts TASK. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HotrowError } from '../../src/errors.ts';
import { Random } from '../support/random.ts';
import { FAMILIES, type Family, type Files } from './families.ts';
import type { FuzzMessage, FuzzTask } from './fuzz.ts';
import { mutate } from './mutate.ts';

const { families, first, count, seed, folder } = JSON.parse(process.argv[2] ?? '') as FuzzTask;
const say = (message: FuzzMessage) => process.send?.(message);

/** More than any small file may take, with what the process itself has. */
const MAX_RESIDENT_BYTES = 2 ** 31;

const root = mkdtempSync(join(folder ?? tmpdir(), 'hotrow-fuzz-'));

function changed(seeds: readonly Files[], number: number): Files {
  const random = new Random(seed + Math.imul(number, 0x9e3779b1));
  const files = random.pick(seeds);
  // The first cases are the valid files.
  if (number < seeds.length) return seeds[number] as Files;
  const target = random.pick(Object.keys(files));
  const other = random.pick(Object.values(random.pick(seeds)));
  return { ...files, [target]: mutate(files[target] as Buffer, random, other) };
}

/** Reads one case; gives its outcome, or undefined where it is none that may be. */
async function settle(family: Family, number: number, files: Files): Promise<string | undefined> {
  const own = join(root, 'case');
  mkdirSync(own);
  for (const [file, bytes] of Object.entries(files)) writeFileSync(join(own, file), bytes);
  const path = family.folder ? own : join(own, Object.keys(files)[0] as string);
  const place = { family: family.name, number, path: own };
  say({ kind: 'began', ...place });
  let outcome = 'read';
  try {
    await family.read(path);
  } catch (error) {
    if (!(error instanceof HotrowError)) {
      say({ kind: 'failed', ...place, what: error instanceof Error ? `${error.stack}` : String(error) });
      return undefined;
    }
    outcome = error.code;
  }
  // Arrays that a reader makes are counted by nobody else.
  const resident = process.memoryUsage.rss();
  if (resident > MAX_RESIDENT_BYTES) {
    say({ kind: 'failed', ...place, what: `the process has ${resident} bytes` });
    return undefined;
  }
  rmSync(own, { recursive: true });
  return outcome;
}

async function run(): Promise<void> {
  const outcomes: Record<string, Record<string, number>> = {};
  for (const family of FAMILIES.filter(({ name }) => families.includes(name))) {
    const seeds = await family.seeds();
    const counts: Record<string, number> = {};
    outcomes[family.name] = counts;
    for (let number = first; number < first + count; number++) {
      const outcome = await settle(family, number, changed(seeds, number));
      if (outcome === undefined) return;
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
  }
  rmSync(root, { recursive: true });
  say({ kind: 'done', outcomes });
}

await run();
process.disconnect();
