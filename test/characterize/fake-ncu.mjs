#!/usr/bin/env node
/**
 * Stands in for Nsight Compute: runs the command twice, as for two counter passes, and gives every launch that it lists the
 * recorded counters of one fused launch. FAKE_NCU says what goes wrong, FAKE_NCU_PIDS names a file for its
 * process's id.
 */
import { spawnSync } from 'node:child_process';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';

const PASSES = 2;
const FLAGS = new Set(['--csv']);

const failure = process.env.FAKE_NCU;
const options = new Map();
const rest = process.argv.slice(2);
while (rest[0]?.startsWith('--')) {
  const name = rest.shift();
  options.set(name, FLAGS.has(name) || rest.length === 0 ? '' : rest.shift());
}
if (options.has('--version')) console.log('NVIDIA (R) Nsight Compute\nVersion 2025.3.0.0 (build 1)');
else if (options.has('--import')) printReport(options.get('--import'));
else record(rest);

function record([program, ...args]) {
  if (process.env.FAKE_NCU_PIDS !== undefined) appendFileSync(process.env.FAKE_NCU_PIDS, `${process.pid}\n`);
  writeFileSync(options.get('--log-file'), `==PROF== Connected to process 1 (${program})\n`);
  for (let pass = 0; pass < PASSES; pass++) {
    const { status } = spawnSync(program, args, { stdio: 'inherit' });
    if (status !== 0) process.exit(status ?? 1);
  }
  if (failure === 'refused') {
    const text = '==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access the counters\n';
    writeFileSync(options.get('--log-file'), text);
    process.exit(1);
  }
  // Of the command line, or of the program that stands in for it.
  const file = args.includes('--cells') ? args[args.indexOf('--cells') + 1] : args.at(-1);
  const [run] = readFileSync(file, 'utf8').split('\n');
  writeFileSync(options.get('--export'), run);
}

function printReport(file) {
  const { cells } = JSON.parse(readFileSync(file, 'utf8'));
  const page = readFileSync(new URL('../fixtures/ncu/raw-page.csv', import.meta.url), 'utf8');
  const [heads, units, ...lines] = page.trimEnd().split('\n');
  const recorded = lines.find((line) => line.includes('"hotrow_fused_bags'));
  const rows = cells.flat().map((kernel) => recorded.replace(/"hotrow_fused_bags\w+"/, `"${kernel}"`));
  if (failure === 'too few') rows.pop();
  const text = `==PROF== Opening report\n${[heads, units, ...rows].join('\n')}\n`;
  process.stdout.write(failure === 'cut' ? text.slice(0, -200) : text);
}
