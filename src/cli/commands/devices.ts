import { Command } from 'commander';
import { openDevice } from '../../backend/open-backend.ts';
import { type CudaAbsent, type CudaPresent, cudaDevices } from '../../cuda/discover.ts';
import type { DeviceDescription } from '../../device.ts';
import { techniquesOn } from '../../plan/techniques/registry.ts';
import { formatOption } from '../options.ts';
import { type Format, formatBytes, printJson, printLine, renderTable } from '../print.ts';

export function devicesCommand(): Command {
  return new Command('devices')
    .description('what this machine offers, and which CUDA libraries were found where')
    .addOption(formatOption())
    .addHelpText('after', '\nExample:\n  hotrow devices')
    .action(({ format }: { format: Format }) => {
      using cpu = openDevice({ device: 'cpu' }).backend;
      const cuda = cudaDevices();
      const devices = [cpu.device, ...('reason' in cuda ? [] : cuda.devices)];
      if (format === 'json') printJson({ devices, cuda: librariesOf(cuda) });
      else printLine([deviceTable(devices), '', ...libraryLines(cuda)].join('\n'));
    });
}

function deviceTable(devices: readonly DeviceDescription[]): string {
  const columns = ['device', 'name', 'kernels', 'threads', 'memory', 'techniques'];
  return renderTable(
    columns.map((title) => ({ title, left: true })),
    devices.map(({ kind, id, name, architecture, threads, memoryBytes }) => [
      id,
      name,
      architecture,
      String(threads),
      formatBytes(memoryBytes),
      techniquesOn(kind)
        .map(({ technique }) => technique.name)
        .join(', '),
    ]),
  );
}

/** As JSON: what was found where and what is missing, or why there is no CUDA. */
function librariesOf(cuda: CudaPresent | CudaAbsent) {
  if ('reason' in cuda) return cuda;
  const missing = cuda.missing.map(({ library, reason: { message, hint } }) => ({ library, message, hint }));
  return { libraries: cuda.libraries, missing };
}

function libraryLines(cuda: CudaPresent | CudaAbsent): string[] {
  if ('reason' in cuda) {
    return [`no CUDA: ${cuda.reason}`, ...(cuda.hint === undefined ? [] : [`hint: ${cuda.hint}`])];
  }
  return [
    ...cuda.libraries.map(({ path, foundIn }) => `library ${path} (${foundIn})`),
    ...cuda.missing.flatMap(({ library, reason }) => [
      `missing ${library}: ${reason.message}`,
      `hint: ${reason.hint}`,
    ]),
  ];
}
