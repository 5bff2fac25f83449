/** What is profiled in place of the command: the cells, on the emulated device. Its argument: the file that lists them. */
import { dirname } from 'node:path';
import { runCells } from '../../src/characterize/cells.ts';
import { keptLookups } from '../../src/characterize/kept-lookups.ts';
import { openFakeBackend } from '../fake-driver/open-backend.ts';
import { SHAPE } from './workload.ts';

using backend = openFakeBackend();
const file = process.argv[2] as string;
const workloads = await keptLookups(dirname(file));
const { tables } = SHAPE.architecture;
await runCells({ backend, tables, workloads }, file);
