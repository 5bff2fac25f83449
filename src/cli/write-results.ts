import { writeFile } from 'node:fs/promises';
import { fileError } from '../errors.ts';
import type { Results } from '../report/page.ts';
import { writeReport } from '../report/write-report.ts';

/** Writes the files that `--json` and `--report` name. @throws UsageError FILE_UNWRITABLE. */
export async function writeResults(
  results: Results,
  { json, report }: { readonly json?: string; readonly report?: string },
): Promise<void> {
  if (json !== undefined) {
    await writeFile(json, `${JSON.stringify(results, null, 2)}\n`).catch((cause) => {
      throw fileError(json, cause);
    });
  }
  if (report !== undefined) await writeReport([results], report);
}
