import { basename } from 'node:path';
import { Command } from 'commander';
import { writeOutputFile } from '../../output-file.ts';
import { distinctResults, renderReport } from '../../report/page.ts';
import { readResults } from '../../report/read-results.ts';
import { printable } from '../../text.ts';
import { checkOutputs } from '../check-outputs.ts';
import { notice, printLine, progress } from '../print.ts';

export function reportCommand(): Command {
  return new Command('report')
    .description('results files to one self-contained HTML page of charts, tables and findings')
    .argument('<results...>', 'files that `bench`, `characterize` and `load` wrote with --json')
    .requiredOption('--out <file>', 'the page')
    .addHelpText(
      'after',
      `
Every device has a section of its own, and every run its own charts: figures compare only within a run.

Example:
  hotrow bench --json results.json && hotrow report results.json --out report.html`,
    )
    .action(async (files: readonly string[], { out }: { readonly out: string }) => {
      await checkOutputs([{ option: '--out', file: out }], { files });
      progress('reading results');
      const results = await Promise.all(files.map(readResults));
      progress(`writing ${basename(out)}`);
      await writeOutputFile(out, renderReport(results));
      progress('');
      const repeats = results.length - distinctResults(results).length;
      if (repeats > 0) notice(`note: ${repeats} of the ${results.length} results repeat another: shown once`);
      printLine(`wrote ${printable(out)}`);
    });
}
