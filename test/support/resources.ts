/** What of a process's resources there is, and what some work leaves behind, as Linux lists them. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { nativeCounts } from '../../src/ffi/owned-handles.ts';
import { garbageCollector } from '../../src/garbage-collector.ts';

const collectGarbage = garbageCollector();

/** Why resources cannot be counted; undefined: they can. */
export const refuseCounting =
  process.platform === 'linux' ? undefined : 'only Linux lists what a process has';

/** Bytes of a page of memory. */
export const PAGE_BYTES = Number(spawnSync('getconf', ['PAGESIZE'], { encoding: 'utf8' }).stdout);

const openFiles = (start: string): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(start);
    } catch {
      // That of the listing itself.
      return false;
    }
  }).length;

/** Open files, without what the engine's own work opens: pipes, polls, events. */
export const descriptors = (): number => openFiles('/');

export const sockets = (): number => openFiles('socket:');

export const threads = (): number => readdirSync('/proc/self/task').length;

/** A part of the address space: its bytes, what may be done with it, the file that it maps. */
export interface Mapping {
  readonly bytes: number;
  /** `r--p`. */
  readonly rights: string;
  readonly path: string;
}

export function mappings(): Mapping[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [range = '', rights = '', , , , ...path] = line.split(/ +/);
      const [from = '0', to = '0'] = range.split('-');
      return { bytes: Number(BigInt(`0x${to}`) - BigInt(`0x${from}`)), rights, path: path.join(' ') };
    });
}

/** Bytes that may be written, in memory or not, without what the engine has of garbage: what is allocated is among them. */
function writableBytes(): number {
  for (let i = 0; i < 3; i++) collectGarbage();
  return mappings().reduce((sum, { bytes, rights }) => (rights.startsWith('rw') ? sum + bytes : sum), 0);
}

/** Asserts that `count` times the work keeps less than a quarter of the `bytes` that it takes each time. */
export async function givesMemoryBack(
  count: number,
  bytes: number,
  work: (i: number) => unknown,
): Promise<void> {
  // What is made once is made.
  await work(0);
  const before = writableBytes();
  for (let i = 0; i < count; i++) await work(i);
  const kept = writableBytes() - before;
  assert.ok(kept < (count * bytes) / 4, `${count} times ${bytes} bytes left ${kept} bytes behind`);
}

/** Asserts that `work` closes every file that it opens; elsewhere than on Linux nothing is known. */
export async function leavesNoFilesOpen(work: () => Promise<unknown>): Promise<void> {
  const before = refuseCounting === undefined ? descriptors() : 0;
  await work();
  if (refuseCounting === undefined) assert.equal(descriptors(), before, 'files are still open');
}

/** Blocks of the CPU library's memory: each ends in a page that cannot be touched. Stacks of threads do too. */
export const guards = (): number =>
  mappings().filter(({ bytes, rights }) => bytes === PAGE_BYTES && rights === '---p').length;

/** How often a file is mapped. */
export const mapped = (path: string): number => mappings().filter((mapping) => mapping.path === path).length;

/** Asserts that the work leaves nothing that the native library counts, no descriptor and no mapping of `files` behind. */
export async function leavesNothing(work: () => unknown, files: readonly string[] = []): Promise<void> {
  const counts = () => ({ ...nativeCounts(), descriptors: descriptors() });
  // What is made once is made.
  await work();
  const before = counts();
  for (let i = 0; i < 2; i++) await work();
  assert.deepEqual(counts(), before);
  assert.deepEqual(
    files.map((file) => mapped(file)),
    files.map(() => 0),
  );
}
