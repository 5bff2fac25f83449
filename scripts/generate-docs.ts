/** Writes what docs and schemas repeat of the sources: `npm run generate`. A test holds that it is current. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { resultsSchema } from '../src/bench/results.ts';
import { planSchema } from '../src/embedding/plan.ts';
import { TECHNIQUES } from '../src/embedding/techniques/registry.ts';
import type { PlanContext } from '../src/embedding/techniques/technique.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** A device and a table to show costs for. */
const EXAMPLE: PlanContext = {
  device: {
    kind: 'cpu',
    id: 'cpu',
    name: 'example',
    architecture: 'avx512',
    threads: 16,
    memoryBytes: 2 ** 36,
    versions: {},
  },
  tables: [{ rows: 500_000, dim: 128, rowFormat: 'float32' }],
};

function techniquesPage(): string {
  const sections = TECHNIQUES.map(({ name, title, summary, devices }) => {
    const perDevice = Object.entries(devices).map(([kind, on]) => {
      const candidates = on.candidates(EXAMPLE);
      const [best] = candidates;
      const cost = best === undefined ? undefined : on.cost(best, EXAMPLE);
      return [
        `On \`${kind}\`: parameters`,
        '',
        '```json',
        JSON.stringify(on.parameters, null, 2),
        '```',
        '',
        `Tried by searches, best guess first: ${candidates.map((candidate) => `\`${JSON.stringify(candidate)}\``).join(', ')}.`,
        cost === undefined
          ? ''
          : `Cost: ${cost.note}${cost.memoryBytes ? ` (${cost.memoryBytes / 1e6} MB for the example table)` : ''}.`,
        on.changesPlacement ? 'Switching it places the tables anew.' : 'Switching it moves no table.',
      ].join('\n');
    });
    return [`## ${title} (\`${name}\`)`, '', `It ${summary}.`, '', ...perDevice].join('\n');
  });
  return [
    '# Techniques',
    '',
    '<!-- Written by `npm run generate` from src/embedding/techniques; do not edit. -->',
    '',
    'What a plan can switch on. The example device has 16 threads, the example table 500,000 rows of 128 float32.',
    '',
    sections.join('\n\n'),
    '',
  ].join('\n');
}

/** Every generated file, by its path in the repository. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const schema = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  return new Map([
    ['docs/techniques.md', techniquesPage()],
    ['schemas/plan-1.schema.json', schema(planSchema)],
    ['schemas/results-1.schema.json', schema(resultsSchema)],
  ]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(`${ROOT}/schemas`, { recursive: true });
  for (const [path, text] of generatedFiles()) writeFileSync(`${ROOT}/${path}`, text);
}
