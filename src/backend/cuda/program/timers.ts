import type { CudaDevice } from '../../../cuda/device.ts';
import { CudaEvent } from '../../../cuda/event.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { LaunchTime } from '../../backend.ts';
import type { LaunchTimer } from '../embedding/embedding-stage.ts';

/** Events that one program borrows and gives back all at once. */
export class EventPool {
  readonly #device: CudaDevice;
  readonly #idle: Record<'plain' | 'timing', CudaEvent[]> = { plain: [], timing: [] };

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  open(): BorrowedEvents {
    return new BorrowedEvents(this);
  }

  take(timing: boolean): CudaEvent {
    return this.#idle[timing ? 'timing' : 'plain'].pop() ?? new CudaEvent(this.#device, { timing });
  }

  giveBack(event: CudaEvent, timing: boolean): void {
    this.#idle[timing ? 'timing' : 'plain'].push(event);
  }
}

/** Events that are free again once the program is done. */
export class BorrowedEvents implements Disposable {
  readonly #pool: EventPool;
  readonly #taken: (readonly [CudaEvent, boolean])[] = [];

  constructor(pool: EventPool) {
    this.#pool = pool;
  }

  take(timing: boolean): CudaEvent {
    const event = this.#pool.take(timing);
    this.#taken.push([event, timing]);
    return event;
  }

  /** An event with timing, recorded behind all work of the stream. */
  mark(stream: CudaStream): CudaEvent {
    const event = this.take(true);
    event.record(stream);
    return event;
  }

  [Symbol.dispose](): void {
    for (const [event, timing] of this.#taken.splice(0)) this.#pool.giveBack(event, timing);
  }
}

/** Has a profiler record launches that pool bags of some tables, and times nothing. */
export class RecordingTimer implements LaunchTimer {
  readonly #device: CudaDevice;
  readonly #tables: ReadonlySet<number>;

  constructor(device: CudaDevice, tables: ReadonlySet<number>) {
    this.#device = device;
    this.#tables = tables;
  }

  time(_: CudaStream, { kind, table }: Omit<LaunchTime, 'seconds'>, work: () => void): void {
    const wanted = kind === 'bags' && (table === undefined || this.#tables.has(table));
    if (wanted) this.#device.profiled(work);
    else work();
  }

  launches(): LaunchTime[] {
    return [];
  }
}

/** Times launches by pairs of events, or lets them run untimed. */
export class EventTimer implements LaunchTimer {
  readonly #events: BorrowedEvents | undefined;
  readonly #spans: { what: Omit<LaunchTime, 'seconds'>; start: CudaEvent; end: CudaEvent }[] = [];

  /** `events`: undefined times nothing. */
  constructor(events: BorrowedEvents | undefined) {
    this.#events = events;
  }

  time(stream: CudaStream, what: Omit<LaunchTime, 'seconds'>, work: () => void): void {
    if (this.#events === undefined) {
      work();
      return;
    }
    const start = this.#events.mark(stream);
    work();
    this.#spans.push({ what, start, end: this.#events.mark(stream) });
  }

  /** Once all is done. */
  launches(): LaunchTime[] {
    return this.#spans.map(({ what, start, end }) => ({ ...what, seconds: end.msSince(start) / 1e3 }));
  }
}
