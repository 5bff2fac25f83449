import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { generatedFiles } from '../scripts/generate-docs.ts';

for (const [path, text] of generatedFiles()) {
  test(`${path} is what the sources say`, () => {
    const written = readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');
    assert.equal(written, text, 'run `npm run generate` and commit what it writes');
  });
}
