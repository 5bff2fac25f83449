import Type from 'typebox';
import { onDevice, type Technique } from './technique.ts';

const cpu = onDevice({
  parameters: Type.Object(
    { count: Type.Integer({ minimum: 1, maximum: 1024 }) },
    { additionalProperties: false },
  ),
  candidates: ({ device }) => (device.threads > 1 ? [{ count: device.threads }] : []),
  refuse: ({ count }, { device }) =>
    count > device.threads ? `${count} threads, but the device was opened with ${device.threads}` : undefined,
  label: ({ count }) => `threads ${count}`,
  cost: () => ({ note: 'one core per thread; stops paying when memory bandwidth is used up' }),
  changesPlacement: false,
});

/** Bags shared among the threads of a persistent pool. Each bag is reduced by one thread: results do not change. */
export const threads = {
  name: 'threads',
  title: 'Threads',
  summary: 'shares bags among a persistent thread pool; each core brings its own misses in flight',
  devices: { cpu },
} satisfies Technique;
