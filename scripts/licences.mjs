// Checks that the licence of every package in the lockfile is allowed: licences.mjs [FOLDER]. Fails for any other, and for none.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** SPDX identifiers. Packages that are installed with Hotrow ask for no more than a notice. */
const SHIPPED = new Set(['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT']);
/** Packages that only build and test it: none of their code ships. */
const DEVELOPMENT = new Set([...SHIPPED, 'MPL-2.0']);

/** Whether a licence expression (OR, AND, parentheses) can be met with `allowed` identifiers. */
function satisfies(expression, allowed) {
  const tokens = expression.match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;
  const operand = () => {
    const token = tokens[at++];
    if (token !== '(') return allowed.has(token);
    const inner = anyOf();
    // Without its end it is no expression.
    return tokens[at++] === ')' && inner;
  };
  const allOf = () => {
    let met = operand();
    while (tokens[at] === 'AND') {
      at++;
      met = operand() && met;
    }
    return met;
  };
  const anyOf = () => {
    let met = allOf();
    while (tokens[at] === 'OR') {
      at++;
      met = allOf() || met;
    }
    return met;
  };
  const met = anyOf();
  return at === tokens.length && met;
}

/** The licence of a package that the lockfile gives none for, as its package.json says. */
function installedLicence(folder, path) {
  const file = join(folder, path, 'package.json');
  if (!existsSync(file)) return undefined;
  const { license } = JSON.parse(readFileSync(file, 'utf8'));
  return typeof license === 'string' ? license : undefined;
}

const folder = process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url));
const { packages } = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8'));
const counts = new Map();
const refused = [];
for (const [path, entry] of Object.entries(packages)) {
  // Hotrow itself, and links into it.
  if (path === '' || entry.link) continue;
  const licence = typeof entry.license === 'string' ? entry.license : installedLicence(folder, path);
  counts.set(licence, (counts.get(licence) ?? 0) + 1);
  const allowed = entry.dev || entry.devOptional ? DEVELOPMENT : SHIPPED;
  if (licence === undefined || !satisfies(licence, allowed))
    refused.push(`${path} ${entry.version ?? ''}: ${licence ?? 'no licence is given'}`);
}
for (const line of refused) console.error(`not allowed: ${line}`);
const summary = [...counts].map(([licence, count]) => `${licence} ${count}`).join(', ');
console.log(
  `licences: ${refused.length === 0 ? 'all allowed' : `${refused.length} not allowed`} (${summary})`,
);
process.exitCode = refused.length === 0 ? 0 : 1;
