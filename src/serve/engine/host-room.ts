/** Whether host memory has room for a model, before it is placed there: a system that runs out of it ends programs. */
import { rowBytes } from '../../embedding/bag.ts';
import { distinctTables } from '../../embedding/shared-tables.ts';
import { DeviceError } from '../../errors.ts';
import type { ModelArchitecture } from '../../model/architecture.ts';
import { formatBytes } from '../../numbers.ts';
import { textIfThere } from '../../opened-file.ts';
import type { Plan } from '../../plan/plan.ts';
import { isInFile, isStored } from '../../tensor.ts';

/** Bytes of tables that are copied to memory. Those in files are mapped, but for a plan with huge pages. */
export function copiedBytes({ tables }: Pick<ModelArchitecture, 'tables'>, plan: Plan): number {
  const all = plan.device === 'cpu' && plan.techniques.hugePages !== undefined;
  return distinctTables(tables)
    .filter(({ weight }) => all || !(isStored(weight) && isInFile(weight)))
    .reduce((sum, table) => sum + table.rows * rowBytes(table), 0);
}

/** @throws DeviceError OUT_OF_MEMORY with both figures. */
export function checkHostRoom(neededBytes: number, availableBytes: number | undefined): void {
  if (availableBytes === undefined || neededBytes <= availableBytes) return;
  throw new DeviceError(
    'OUT_OF_MEMORY',
    `the tables need ${formatBytes(neededBytes)} of memory, and ${formatBytes(availableBytes)} are available`,
    { hint: 'make room, or serve it under a plan without huge pages, from safetensors, which is mapped' },
  );
}

/** What the system could give, and the group that the process belongs to allows. Undefined: it does not say. */
export async function availableBytes(): Promise<number | undefined> {
  const number = async (file: string, pattern: RegExp) => {
    const found = pattern.exec(await textIfThere(file))?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const [system, most, used, cached = 0] = await Promise.all([
    number('/proc/meminfo', /^MemAvailable:\s+(\d+) kB$/m),
    number('/sys/fs/cgroup/memory.max', /^(\d+)$/m),
    number('/sys/fs/cgroup/memory.current', /^(\d+)$/m),
    number('/sys/fs/cgroup/memory.stat', /^inactive_file (\d+)$/m),
  ]);
  const own = most === undefined || used === undefined ? undefined : most - used + cached;
  if (system === undefined) return own;
  return Math.min(1024 * system, own ?? Number.POSITIVE_INFINITY);
}
