/** What a load was, as the terminal and reports say it, and what should be known of its figures. */
import { formatBytes } from '../numbers.ts';
import type { LoadResults } from './results.ts';

/** Server, requests and generator: [name, in words]. */
export function loadFacts({ server, requests, generator }: LoadResults): [string, string][] {
  const { samples, bytes, deadlineMs, priority, userFeatures } = requests;
  const range = ({ least, most }: typeof samples) => (least === most ? '' : ` (${least}–${most})`);
  const software = server.software === undefined ? '' : `, ${server.software}`;
  return [
    ['server', `${server.url}${software}`],
    ['model', `${server.model}: ${server.features} features, ${server.denseFeatures} dense`],
    [
      'requests',
      [
        requests.source,
        `${samples.mean} samples${range(samples)}`,
        `bags of ${requests.bagLengths}`,
        requests.indexType,
        ...(userFeatures === undefined ? [] : [`one user's features ${userFeatures}`]),
        `${formatBytes(bytes.mean)} each`,
        `${requests.bodies} different`,
        ...(deadlineMs === undefined ? [] : [`deadline ${deadlineMs} ms`]),
        ...(priority === undefined ? [] : [`priority ${priority}`]),
        `seed ${requests.seed}`,
      ].join(', '),
    ],
    [
      'generator',
      `${generator.processes} processes on ${generator.cores} cores, ${generator.opened} connections opened (${generator.connections} each at most), ${generator.pacing === 'spin' ? 'looks at the clock without a pause' : 'sleeps by timers'}`,
    ],
  ];
}

/** Own lag over latency from which on the generator's figures are its own as much as the server's. */
export const LAG_SHARE = 0.1;
/** A lag below it is that of timers and of other programs. */
export const LEAST_LAG_MS = 0.2;

/** Whether the generator was too late itself for a run's 99th percentile to be the server's. */
export function isGeneratorLate({ lag, latency }: LoadResults['runs'][number]): boolean {
  const p99 = latency.quantiles.find(({ quantile }) => quantile === 0.99)?.ms ?? 0;
  return lag.p99Ms > LEAST_LAG_MS && lag.p99Ms > LAG_SHARE * p99;
}
