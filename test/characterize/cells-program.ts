/** What is profiled in place of the command: the cells, on the emulated device. Its argument: the file that lists them. */
import { runCells } from '../../src/characterize/cells.ts';
import { VARIANTS } from '../../src/characterize/variants.ts';
import { openFakeBackend } from '../fake-driver/open-backend.ts';
import { SHAPE, WORKLOADS } from './workload.ts';

using backend = openFakeBackend();
const workloads = WORKLOADS.map(({ embedding }) => embedding);
const { tables } = SHAPE.architecture;
await runCells({ backend, tables, workloads, variants: VARIANTS }, process.argv[2] as string);
