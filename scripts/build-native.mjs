// Builds the CPU kernels for this checkout, or for its package: what users build on first use, over src/ffi/native.
import { readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { FOR_NODE } from './esbuild-options.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const sources = join(root, 'kernels', 'cpu');
const builder = join(root, 'src', 'ffi', 'native');

/** src/ffi/native, as JavaScript. It needs nothing but Node. */
async function native() {
  const contents = ['build-library', 'compiler', 'target'].map((name) => `export * from './${name}.ts';`);
  const { outputFiles } = await build({
    stdin: { contents: contents.join('\n'), resolveDir: builder, loader: 'ts' },
    ...FOR_NODE,
    write: false,
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);
}

/** Whether `library` is newer than every source and than what builds it. */
function isUpToDate(library) {
  const built = statSync(library, { throwIfNoEntry: false });
  const filesOf = (folder) => [folder, ...readdirSync(folder).map((name) => join(folder, name))];
  const inputs = [...filesOf(sources), ...filesOf(builder), fileURLToPath(import.meta.url)];
  return built !== undefined && inputs.every((path) => statSync(path).mtimeMs < built.mtimeMs);
}

/**
 * Builds the library for this machine unless the one there is newer than its sources.
 *
 * `flags`: more of them, for the compiler and the linker; by themselves they do not make a library older. `environment`: its CC
 * names the compiler.
 *
 * @param {{ outputDir?: string, flags?: readonly string[], environment?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<{ library: string, built: boolean }>}
 */
export async function buildNative({ outputDir, flags = [], environment = process.env } = {}) {
  const { buildLibrary, findCompiler, libraryName, targetName, thisTarget } = await native();
  const target = thisTarget();
  const folder = outputDir ?? join(root, 'dist', 'native', targetName(target));
  const library = join(resolve(folder), libraryName(target));
  if (isUpToDate(library)) return { library, built: false };
  await buildLibrary({ sources, library, target, compiler: findCompiler(environment), flags });
  return { library, built: true };
}

/** Libraries for the package: of this machine, and of others that there is a compiler for here. */
export async function buildShipped(folder) {
  const { buildLibrary, crossCompiler, findCompiler, libraryName, targetName, thisTarget } = await native();
  const own = thisTarget();
  const shipped = [];
  for (const arch of ['x64', 'arm64']) {
    const target = { platform: 'linux', arch };
    const isOwn = targetName(target) === targetName(own);
    const compiler = isOwn ? findCompiler() : crossCompiler(target);
    if (compiler === undefined) {
      console.error(`no compiler for ${targetName(target)}: the package has no library for it`);
      continue;
    }
    const library = join(folder, targetName(target), libraryName(target));
    await buildLibrary({ sources, library, target, compiler, isShipped: true });
    shipped.push(targetName(target));
  }
  return shipped;
}
