/** Runs the `hotrow` command as a user types it. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where the command keeps plans in these tests. */
export const dataHome = mkdtempSync(join(tmpdir(), 'hotrow-data-'));
process.on('exit', () => rmSync(dataHome, { recursive: true, force: true }));

const SOURCE = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
/** The command as it is built, where scripts/test.mjs has built it; else its source. */
const { HOTROW_TEST_MAIN: built } = process.env;
export const MAIN = built === undefined ? ['--import', 'tsx', SOURCE] : [built];

/** What runs it: a program and its first arguments. */
export const COMMAND: readonly [string, ...string[]] = [process.execPath, ...MAIN];

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Lines of progress, which only slow machines print. */
const PROGRESS = /^.* \(\d+ s\)\n/gm;

/** `hotrow …args`, with what it printed and its exit code. */
export function hotrow(...args: string[]): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const [program, ...first] = COMMAND;
    const child = spawn(program, [...first, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // Plans that the user has tuned are not these tests' business.
      env: { ...process.env, XDG_DATA_HOME: dataHome },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr: stderr.replace(PROGRESS, '') }));
  });
}
