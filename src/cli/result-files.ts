/** `--json` and `--report`: where the commands that measure leave their results. */
import type { Command } from 'commander';
import { writeOutputFile } from '../output-file.ts';
import { renderReport } from '../report/page.ts';
import type { Results } from '../report/read-results.ts';
import { checkOutputs, type Inputs } from './check-outputs.ts';

export interface ResultFiles {
  readonly json?: string;
  readonly report?: string;
}

export function withResultFiles(command: Command): Command {
  return command
    .option('--json <file>', 'write the results as JSON')
    .option('--report <file>', 'write the results as an HTML page');
}

/** Before the work that makes the results. @throws as checkOutputs. */
export function checkResultFiles({ json, report }: ResultFiles, inputs: Inputs): Promise<void> {
  const outputs = [
    { option: '--json', file: json },
    { option: '--report', file: report },
  ];
  return checkOutputs(outputs, inputs);
}

/** @throws UsageError FILE_UNWRITABLE. */
export async function writeResults(results: Results, { json, report }: ResultFiles): Promise<void> {
  if (json !== undefined) await writeOutputFile(json, `${JSON.stringify(results, null, 2)}\n`);
  if (report !== undefined) await writeOutputFile(report, renderReport([results]));
}

/** The command that is running, as results keep it. */
export function commandLine(): string {
  return ['hotrow', ...process.argv.slice(2)].join(' ');
}
