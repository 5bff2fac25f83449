/**
 * Builds the CPU kernels for this machine: `node build-library.js SOURCES LIBRARY`. Progress goes to standard error; what went wrong
 * to standard output, as JSON.
 */
import { HotrowError } from '../../errors.ts';
import { buildLibrary } from './build-library.ts';
import { findCompiler } from './compiler.ts';
import { thisTarget } from './target.ts';

/** A line of progress after so many files. */
const FILES_A_LINE = 8;

const [sources, library] = process.argv.slice(2);
try {
  if (sources === undefined || library === undefined)
    throw new TypeError('usage: build-library SOURCES LIBRARY');
  const compiler = findCompiler();
  console.error(
    `Hotrow builds its CPU kernels for this machine, once, with \`${compiler.join(' ')}\`: ${library}`,
  );
  await buildLibrary({
    sources,
    library,
    target: thisTarget(),
    compiler,
    onCompiled: (n, of) => {
      if (n % FILES_A_LINE === 0 || n === of) console.error(`  ${n} of ${of} files`);
    },
  });
} catch (error) {
  const { message } = error as Error;
  const hint = error instanceof HotrowError ? error.hint : undefined;
  console.log(JSON.stringify({ message, hint }));
  process.exitCode = 1;
}
