/** The CPU backend with its operators as clang builds them, without a warning; the other tests have what `cc` makes. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { buildLibrary } from '../../src/ffi/native/build-library.ts';
import { thisTarget } from '../../src/ffi/native/target.ts';
import { compilerVersion, keepLibrary, keptLibrary } from '../support/compiled.ts';
import { conformance, conformanceSkipped } from './suite.ts';

const COMPILER = 'clang';
const FLAGS = ['-Werror'];
const SOURCES = fileURLToPath(new URL('../../kernels/cpu', import.meta.url));
const BUILDER = fileURLToPath(new URL('../../src/ffi/native/build-library.ts', import.meta.url));

const version = compilerVersion(COMPILER);

async function build(): Promise<string> {
  const files = [BUILDER, ...readdirSync(SOURCES).map((name) => join(SOURCES, name))];
  const inputs = [version ?? '', ...FLAGS, ...files.map((file) => readFileSync(file, 'utf8'))];
  const kept = keptLibrary(inputs);
  if (kept !== undefined) return kept;
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-clang-'));
  try {
    const library = join(folder, 'library.so');
    const target = thisTarget();
    await buildLibrary({ sources: SOURCES, library, target, compiler: [COMPILER], flags: FLAGS });
    return keepLibrary(inputs, library);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function open(): Promise<CpuBackend> {
  process.env.HOTROW_CPU_LIBRARY = await build();
  return new CpuBackend();
}

// A share of the random problems: cpu.test.ts has as many of the same library by another compiler.
if (version !== undefined)
  conformance('cpu, built by clang', open, { propertyRuns: 50, faultPlaces: 6, rowUpdateCalls: 100 });
else conformanceSkipped('cpu, built by clang', `no ${COMPILER} on the PATH`);
