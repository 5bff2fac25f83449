/** Mutants: defects put into the source one at a time, each of which a test must notice. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
// @ts-expect-error: a script, without types
import { nearestTests, testFiles } from '../changed-tests.mjs';

export interface Mutant {
  /** By path from the repository's root. */
  readonly file: string;
  /** Occurs in the file exactly once. */
  readonly find: string;
  readonly replace: string;
  /** Test files that are run, in this order; undefined: the nearest ones. */
  readonly tests?: readonly string[];
  /** Why nothing that the mutant does can be told from what is right. */
  readonly equivalent?: string;
}

/** `[find, replace]`, and why they are equivalent where they are. */
export type Edit = readonly [find: string, replace: string, equivalent?: string];

/** Mutants of one file. `tests`: as in Mutant. */
export function mutantsOf(file: string, edits: readonly Edit[], tests?: readonly string[]): Mutant[] {
  return edits.map(([find, replace, equivalent]) => ({
    file,
    find,
    replace,
    ...(tests === undefined ? {} : { tests }),
    ...(equivalent === undefined ? {} : { equivalent }),
  }));
}

/** A mutant in a line. */
export function nameOf({ file, find, replace }: Mutant): string {
  const line = (text: string) => text.replace(/\s+/g, ' ').trim();
  return `${file}: ${line(find)} → ${line(replace) || '(nothing)'}`;
}

/** What of a list does not follow the code: a text that is not in its file exactly once, a test that is not there. */
export function faultsOf(mutants: readonly Mutant[], root: string): string[] {
  const texts = new Map<string, string>();
  const textOf = (file: string) => {
    if (!texts.has(file))
      texts.set(file, existsSync(join(root, file)) ? readFileSync(join(root, file), 'utf8') : '');
    return texts.get(file) as string;
  };
  return mutants.flatMap((mutant) => {
    const times = textOf(mutant.file).split(mutant.find).length - 1;
    const missing = (mutant.tests ?? []).filter((test) => !existsSync(join(root, test)));
    return [
      ...(times === 1 ? [] : [`${nameOf(mutant)}: its text occurs ${times} times`]),
      ...(mutant.find === mutant.replace ? [`${nameOf(mutant)}: changes nothing`] : []),
      ...missing.map((test) => `${nameOf(mutant)}: there is no ${test}`),
    ];
  });
}

/** So many of the nearest test files are run. */
const NEAREST = 3;
/** Read the sources as text, so they would tell any mutant from the original. */
const READS_SOURCES = /^test\/(?:scripts\/mutants|imports|generated)\.test\.ts$/;

/** The test files of a mutant: those named, or the nearest ones of those that everybody waits for, else of all. */
export function testsOfMutant(
  mutant: Mutant,
  root: string,
  edges: Map<string, readonly string[]>,
): readonly string[] {
  if (mutant.tests !== undefined) return mutant.tests;
  const all = (testFiles(root) as string[]).filter((test) => !READS_SOURCES.test(test));
  const nearest = nearestTests(mutant.file, all, root, edges) as string[];
  const quick = nearest.filter((test) => !test.endsWith('.rest.test.ts') && !test.startsWith('test/gpu/'));
  return (quick.length > 0 ? quick : nearest).slice(0, NEAREST);
}
