/** The CPU backend as it opens, and as callers get it; cpu.rest.test.ts has the other instruction sets and thread counts. */
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { GuardedBackend } from '../../src/backend/guarded/backend.ts';
import { conformance } from './suite.ts';

conformance('cpu', () => new CpuBackend());
conformance('cpu, guarded', () => new GuardedBackend(new CpuBackend()), {
  groups: ['programs', 'transfers'],
});
