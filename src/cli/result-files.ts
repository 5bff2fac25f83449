/** `--json` and `--report`: where the commands that measure leave their results. */
import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { fileError } from '../errors.ts';
import type { Results } from '../report/page.ts';
import { checkReportFile, writeReport } from '../report/write-report.ts';

export interface ResultFiles {
  readonly json?: string;
  readonly report?: string;
}

export function withResultFiles(command: Command): Command {
  return command
    .option('--json <file>', 'write the results as JSON')
    .option('--report <file>', 'write the results as an HTML page');
}

/** Before the work that makes the results; `inputs` are its files. @throws as checkReportFile. */
export async function checkResultFiles(
  { json, report }: ResultFiles,
  inputs: readonly string[],
): Promise<void> {
  if (report !== undefined) await checkReportFile(report, json === undefined ? inputs : [...inputs, json]);
}

/** @throws UsageError FILE_UNWRITABLE. */
export async function writeResults(results: Results, { json, report }: ResultFiles): Promise<void> {
  if (json !== undefined) {
    await writeFile(json, `${JSON.stringify(results, null, 2)}\n`).catch((cause) => {
      throw fileError(json, cause);
    });
  }
  if (report !== undefined) await writeReport([results], report);
}

/** The command that is running, as results keep it. */
export function commandLine(): string {
  return ['hotrow', ...process.argv.slice(2)].join(' ');
}
