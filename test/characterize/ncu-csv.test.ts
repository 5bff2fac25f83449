/** Reports of Nsight Compute: a cut-down one of an H200, and what must not pass for one. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { METRIC_NAMES } from '../../src/characterize/metrics.ts';
import { parseRawPage } from '../../src/characterize/ncu-csv.ts';

const PAGE = readFileSync(new URL('../fixtures/ncu/raw-page.csv', import.meta.url), 'utf8');

const failsWith = (text: string, message: RegExp, metrics = METRIC_NAMES) =>
  assert.throws(() => parseRawPage(text, metrics), { code: 'PROFILER_FAILED', message });

test('launches in their order, in base units', () => {
  const launches = parseRawPage(PAGE, METRIC_NAMES);
  assert.deepEqual(
    launches.map(({ kernel }) => kernel.replace(/_f32.*/, '')),
    [0, 0, 1, 1, 0, 0].map((fused) => (fused ? 'hotrow_fused_bags' : 'hotrow_check_bags')),
  );
  const [first, , fused] = launches;
  assert.equal(first?.metrics.get('gpu__time_duration.sum'), 5504);
  assert.equal(fused?.metrics.get('gpu__time_duration.sum'), 81984);
  assert.equal(fused?.metrics.get('dram__bytes_read.sum'), 295885824);
  assert.equal(fused?.metrics.get('launch__registers_per_thread'), 68);
  assert.equal(fused?.metrics.get('gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed'), 75.749982);
  assert.deepEqual([...(fused?.metrics.keys() ?? [])], METRIC_NAMES);
});

test('extra metrics are there where the report has them', () => {
  const registers = 'launch__registers_per_thread';
  const [first] = parseRawPage(PAGE, ['gpu__time_duration.sum'], [registers, 'lts__none']);
  assert.deepEqual([...(first?.metrics.keys() ?? [])], ['gpu__time_duration.sum', registers]);
});

test('what precedes the table is passed over; thousands, quotes, units', () => {
  const text =
    '==WARNING== "x"\n"ID","Kernel Name","a","b"\r\n"","","ms","Kbyte"\r\n"0","k ""q"", 2","1,043","2.5"\r\n';
  const [launch] = parseRawPage(text, ['a', 'b']);
  assert.equal(launch?.kernel, 'k "q", 2');
  assert.deepEqual(
    [...(launch?.metrics ?? [])],
    [
      ['a', 1043e6],
      ['b', 2500],
    ],
  );
  assert.deepEqual(parseRawPage(text.split('\r\n').slice(0, 2).join('\n'), ['a']), []);
});

test('cut, empty, or another text: an error', () => {
  failsWith('', /it is empty/);
  failsWith('==ERROR== no kernels were profiled\n', /==ERROR== no kernels/);
  failsWith(PAGE.slice(0, -40), /was cut/);
  failsWith(PAGE.trimEnd().replace(/,"[^"]*"$/, ''), /launch 5 has 40 of 41 values/);
  failsWith(PAGE, /no column sm__none/, ['sm__none']);
  failsWith(PAGE.replace('"81.984000"', '""'), /launch 2 has no gpu__time_duration\.sum: ""/);
  failsWith(PAGE.replace('"81.984000"', '"n/a"'), /launch 2 has no gpu__time_duration\.sum: "n\/a"/);
});
