/** How long threads of this process wait for a core while others run there: what else a machine does is in every time that is taken on it. */
import { readdirSync, readFileSync } from 'node:fs';

/** ns that a thread has run, and that it could have run and waited. */
interface ThreadTimes {
  readonly ran: number;
  readonly waited: number;
}

/** From this share on, a benchmark says it. */
export const BUSY_SHARE = 0.15;

export class CoreWaits {
  readonly #folder: string;
  readonly #before: ReadonlyMap<string, ThreadTimes>;

  /** Counts from now on. `folder`: of the process's threads, as Linux shows them. */
  constructor(folder = '/proc/self/task') {
    this.#folder = folder;
    this.#before = threadTimes(folder);
  }

  /** Waited over ran and waited, in [0, 1], of all threads that are there now; undefined where the system does not tell. */
  share(): number | undefined {
    let [ran, waited] = [0, 0];
    for (const [thread, now] of threadTimes(this.#folder)) {
      const before = this.#before.get(thread);
      ran += now.ran - (before?.ran ?? 0);
      waited += now.waited - (before?.waited ?? 0);
    }
    return ran + waited > 0 ? waited / (ran + waited) : undefined;
  }

  /** What should be known of times that were taken meanwhile: they are not the kernels' alone. Undefined: nothing. */
  note(): string | undefined {
    const share = this.share();
    if (share === undefined || share < BUSY_SHARE) return undefined;
    return `the machine was busy: threads waited ${Math.round(100 * share)} % of their time for a core`;
  }
}

function threadTimes(folder: string): Map<string, ThreadTimes> {
  const times = new Map<string, ThreadTimes>();
  for (const thread of names(folder)) {
    try {
      const [ran, waited] = readFileSync(`${folder}/${thread}/schedstat`, 'utf8').split(' ').map(Number);
      if (ran !== undefined && waited !== undefined && Number.isFinite(ran + waited))
        times.set(thread, { ran, waited });
    } catch {
      // It has ended meanwhile.
    }
  }
  return times;
}

/** No other system than Linux has the folder. */
function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
