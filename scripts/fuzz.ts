/** Fuzzes what reads files: tsx scripts/fuzz.ts COUNT [SEED [FAMILY…]]. Prints outcomes, and each failing case with its files. */
import { availableParallelism } from 'node:os';
import { FAMILIES } from '../test/fuzz/families.ts';
import { fuzz } from '../test/fuzz/fuzz.ts';

const [count = '1000', seed = String(Date.now() % 2 ** 31), ...names] = process.argv.slice(2);
const families = names.length > 0 ? names : FAMILIES.map(({ name }) => name);
/** Failures of one family that are looked for. */
const MAX_FAILURES = 5;

const folder = process.env.FUZZ_FOLDER;

/** Runs all cases of a family, going on after each failure. */
async function run(family: string): Promise<boolean> {
  const outcomes: Record<string, number> = {};
  const end = Number(count);
  let failures = 0;
  const beganMs = Date.now();
  for (let first = 0; first < end; ) {
    const task = {
      families: [family],
      first,
      count: end - first,
      seed: Number(seed),
      ...(folder ? { folder } : {}),
    };
    const result = await fuzz(task);
    for (const [outcome, times] of Object.entries(result.outcomes[family] ?? {}))
      outcomes[outcome] = (outcomes[outcome] ?? 0) + times;
    const { failure } = result;
    if (failure === undefined) break;
    failures += 1;
    console.log(`FAILED ${family}, seed ${seed}, case ${failure.number}: ${failure.path}\n${failure.what}`);
    if (failures >= MAX_FAILURES) break;
    first = failure.number + 1;
  }
  const seconds = ((Date.now() - beganMs) / 1000).toFixed(0);
  console.log(
    `${family}: ${count} cases, seed ${seed}, ${failures} failures, ${seconds} s: ${JSON.stringify(outcomes)}`,
  );
  return failures === 0;
}

console.log(`seed ${seed}`);
const waiting = [...families];
let passed = true;
const lane = async () => {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
    passed = (await run(next)) && passed;
};
await Promise.all(Array.from({ length: Math.min(availableParallelism(), 2) }, lane));
process.exitCode = passed ? 0 : 1;
