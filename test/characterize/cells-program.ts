/** What is profiled in place of the command: the cells, on the emulated device. Its argument: the file that lists them. */
import { runCells } from '../../src/characterize/cells.ts';
import { openFakeBackend } from '../fake-driver/open-backend.ts';
import { SHAPE, WORKLOADS } from './workload.ts';

using backend = openFakeBackend();
const workloads = WORKLOADS.map(({ embedding }) => embedding);
await runCells({ backend, tables: SHAPE.architecture.tables, workloads }, process.argv[2] as string);
