/** The CPU backend as it opens; cpu.rest.test.ts has the other instruction sets and thread counts. */
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { conformance } from './suite.ts';

conformance('cpu', () => new CpuBackend());
