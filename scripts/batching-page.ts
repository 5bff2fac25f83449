/** docs/batching.md with what the recorded simulation of policies says. */
import { fill, markdownTable, readPage, recorded } from './recorded.ts';

interface Simulated {
  readonly protocol: string;
  readonly engines: readonly { readonly name: string; readonly a: number; readonly b: number }[];
  readonly noise: { readonly spread: number; readonly slowShare: number; readonly slowBy: number };
  readonly rows: readonly {
    readonly policy: string;
    readonly hasNoise: boolean;
    readonly engines: readonly { readonly ratePercent: number; readonly inTimePercentAtOverload: number }[];
  }[];
}

export function batchingPage(): string {
  const { engines, noise, rows } = JSON.parse(recorded('batching-policies.json')) as Simulated;
  const titles = ['policy', ...engines.map(({ name, a, b }) => `${name}: ${a} + ${b} n ms`)];
  const table = (hasNoise: boolean) =>
    markdownTable(
      titles,
      rows
        .filter((row) => row.hasNoise === hasNoise)
        .map((row) => [
          row.policy,
          ...row.engines.map((cell) => `${cell.ratePercent} %, ${cell.inTimePercentAtOverload.toFixed(0)} %`),
        ]),
    );
  const { spread, slowShare, slowBy } = noise;
  const said = `Batches with noise: a normal spread of ${100 * spread} %, and ${100 * slowShare} % that take ${slowBy} times as long.`;
  const page = fill(readPage('docs/batching.md'), 'policies', table(false));
  return fill(page, 'noise', `${said}\n\n${table(true)}`);
}
