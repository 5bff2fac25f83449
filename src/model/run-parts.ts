/** A batch that is run in parts, some at a time: what each gives, put together. */
import type { RunReport } from '../backend/backend.ts';
import { PARTS_AT_ONCE } from '../backend/batch-programs.ts';
import { throwIfAborted } from '../checks/abort.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { type BatchPart, firstFound, inWholeBatch, joinedFindings } from '../embedding/batch-parts.ts';
import { RequestError } from '../errors.ts';

export interface PartsOptions {
  readonly tables: readonly EmbeddingTable[];
  /** The call, for errors. */
  readonly what: string;
  /** Looked at before each part. */
  readonly signal: AbortSignal | undefined;
}

/**
 * Runs all parts; a report of all of them. Times are added up, though parts may run side by side.
 * @throws what `run` throws, when no part is under way any more; AbortError; of several bad indices the first of the whole batch.
 */
export async function runParts<P extends BatchPart>(
  parts: readonly P[],
  { tables, what, signal }: PartsOptions,
  run: (part: P) => Promise<RunReport>,
): Promise<RunReport> {
  const left = parts.values();
  const reports: RunReport[] = [];
  const refused: RequestError[] = [];
  const failed: unknown[] = [];
  const worker = async () => {
    for (const part of left) {
      if (failed.length > 0) return;
      try {
        throwIfAborted(signal, what);
        const report = await run(part);
        const { first, ...counts } = report.findings;
        const findings =
          first === undefined ? counts : { ...counts, first: inWholeBatch(first, part, tables) };
        reports.push({ ...report, findings });
      } catch (error) {
        if (error instanceof RequestError) refused.push(inWholeBatch(error, part, tables));
        else failed.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: PARTS_AT_ONCE }, worker));
  if (failed.length > 0) throw failed[0];
  const first = firstFound(refused);
  if (first !== undefined) throw first;
  return joined(reports);
}

function joined(reports: readonly RunReport[]): RunReport {
  const stages: Record<string, number> = {};
  const seconds = new Float64Array(reports[0]?.seconds.length ?? 0);
  for (const report of reports) {
    for (const [stage, took] of Object.entries(report.stages)) stages[stage] = (stages[stage] ?? 0) + took;
    for (let i = 0; i < seconds.length; i++) seconds[i] = (seconds[i] as number) + (report.seconds[i] ?? 0);
  }
  return {
    seconds,
    stages,
    findings: joinedFindings(reports.map(({ findings }) => findings)),
    launches: reports.flatMap(({ launches }) => launches),
    kernels: [...new Set(reports.flatMap(({ kernels }) => kernels))],
  };
}
