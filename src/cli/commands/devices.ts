import { Command } from 'commander';
import { openBackend } from '../../backend/open-backend.ts';
import type { DeviceDescription } from '../../device.ts';
import { techniquesOn } from '../../embedding/techniques/registry.ts';
import { formatOption } from '../options.ts';
import { type Format, formatBytes, printJson, printLine, renderTable } from '../output.ts';

export function devicesCommand(): Command {
  return new Command('devices')
    .description('what this machine offers')
    .addOption(formatOption())
    .addHelpText('after', '\nExample:\n  hotrow devices')
    .action(({ format }: { format: Format }) => {
      using cpu = openBackend({ device: 'cpu' }).backend;
      const devices: DeviceDescription[] = [cpu.device];
      if (format === 'json') return printJson({ devices });
      const columns = ['device', 'name', 'kernels', 'threads', 'memory', 'techniques'];
      printLine(
        renderTable(
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
        ),
      );
    });
}
