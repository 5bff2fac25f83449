/**
 * Puts defects into a copy of the work tree one at a time, and tells which of them no test notices:
 *   tsx scripts/mutants.ts [--list] [--only PATTERN] [--every N] [--jobs N]
 * `--every N` takes each Nth of them: a sample of the whole list.
 * Exit status 1: a mutant lives that is not said to be equivalent; 2: the list does not follow the code, or tests fail without mutants.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MUTANTS } from './mutants/list.ts';
import { faultsOf, type Mutant, nameOf, testsOfMutant } from './mutants/mutant.ts';
import { WorkCopy } from './mutants/work-copy.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values: options } = parseArgs({
  options: {
    list: { type: 'boolean' },
    only: { type: 'string' },
    every: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '1' },
  },
});

function fail(lines: readonly string[]): never {
  for (const line of lines) console.error(`error: ${line}`);
  process.exit(2);
}

/** What an option counts. */
function countOf(option: 'every' | 'jobs'): number {
  const count = Number(options[option]);
  return Number.isInteger(count) && count >= 1
    ? count
    : fail([`--${option} ${options[option]} is no number`]);
}

const jobs = countOf('jobs');
const every = countOf('every');
const pattern = new RegExp(options.only ?? '');
const chosen = MUTANTS.filter((mutant) => pattern.test(nameOf(mutant))).filter((_, i) => i % every === 0);
const faults = faultsOf(MUTANTS, root);
if (faults.length > 0) fail(faults);
if (chosen.length === 0) fail([`no mutant is named by ${options.only}`]);

const edges = new Map<string, readonly string[]>();
const testsOf = new Map(chosen.map((mutant) => [mutant, testsOfMutant(mutant, root, edges)]));
if (options.list === true) {
  for (const [mutant, tests] of testsOf) console.log(`${nameOf(mutant)}\n    ${tests.join(' ')}`);
  process.exit(0);
}

const copies: WorkCopy[] = [];
process.on('exit', () => {
  for (const copy of copies) copy[Symbol.dispose]();
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

/** Without mutants all is well. @returns each test file's ms. */
async function baseline(): Promise<Map<string, number>> {
  const waiting = [...new Set([...testsOf.values()].flat())];
  const ms = new Map<string, number>();
  const failed: string[] = [];
  console.log(`${chosen.length} mutants; their ${waiting.length} test files without any:`);
  const work = async (copy: WorkCopy) => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const run = (await copy.test([file], () => 300_000)).get(file);
      ms.set(file, run?.ms ?? 0);
      if (run?.passed !== true) failed.push(`${file} fails without a mutant:\n${run?.output.slice(-3000)}`);
    }
  };
  await Promise.all(copies.map(work));
  if (failed.length > 0) fail(failed);
  return ms;
}

type Outcome = 'killed' | 'lives' | 'equivalent' | 'cannot be built';

async function run(
  copy: WorkCopy,
  mutant: Mutant,
  usualMs: (file: string) => number,
): Promise<[Outcome, string]> {
  try {
    const runs = await copy.with(mutant, () => copy.test(testsOf.get(mutant) ?? [], usualMs));
    const killer = [...runs].find(([, { passed }]) => !passed);
    if (killer !== undefined) return ['killed', killer[0]];
    return mutant.equivalent === undefined
      ? ['lives', [...runs.keys()].join(' ')]
      : ['equivalent', mutant.equivalent];
  } catch (error) {
    return ['cannot be built', (error as Error).message];
  }
}

for (let job = 0; job < jobs; job++) copies.push(await WorkCopy.of(root));
if (chosen.some(({ file }) => file.startsWith('kernels/cpu/'))) for (const copy of copies) await copy.build();
const usual = await baseline();
const waiting = [...chosen];
const outcomes = new Map<Outcome, Mutant[]>();
await Promise.all(
  copies.map(async (copy) => {
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      const began = performance.now();
      const [outcome, why] = await run(copy, mutant, (file) => usual.get(file) ?? 0);
      outcomes.set(outcome, [...(outcomes.get(outcome) ?? []), mutant]);
      const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(6);
      console.log(`${seconds} s  ${outcome.padEnd(10)}  ${nameOf(mutant)}  (${why})`);
    }
  }),
);
const [killed, lives, equivalent, unbuilt] = (
  ['killed', 'lives', 'equivalent', 'cannot be built'] as const
).map((outcome) => outcomes.get(outcome) ?? []) as [Mutant[], Mutant[], Mutant[], Mutant[]];
console.log(
  `\n${chosen.length} mutants: ${killed.length} killed, ${lives.length} live, ${equivalent.length} equivalent, ${unbuilt.length} cannot be built`,
);
for (const mutant of lives) console.log(`  lives: ${nameOf(mutant)}`);
for (const mutant of unbuilt) console.log(`  cannot be built: ${nameOf(mutant)}`);
process.exit(unbuilt.length > 0 ? 2 : lives.length > 0 ? 1 : 0);
