/** What a backend gave and did not get back. */
import type { Backend } from '../../src/backend/backend.ts';

const GIVERS = ['placeTables', 'placeBags', 'placeLinear', 'allocate', 'allocateHost', 'prepare'] as const;
type Giver = (typeof GIVERS)[number];

/** Counts what a backend gives from now on, by the method that gave it; methods with nothing are left out. */
export function countParts(backend: Backend): () => Partial<Record<Giver, number>> {
  const live = new Map<Giver, Set<object>>();
  for (const name of GIVERS) {
    const own = new Set<object>();
    live.set(name, own);
    const counted = <T extends Disposable>(part: T): T => {
      own.add(part);
      const giveBack = part[Symbol.dispose].bind(part);
      part[Symbol.dispose] = () => {
        own.delete(part);
        giveBack();
      };
      return part;
    };
    const give = (backend[name] as (...given: never[]) => Disposable | Promise<Disposable>).bind(backend);
    Object.defineProperty(backend, name, {
      configurable: true,
      value: (...given: never[]) => {
        const part = give(...given);
        return part instanceof Promise ? part.then(counted) : counted(part);
      },
    });
  }
  return () =>
    Object.fromEntries([...live].filter(([, own]) => own.size > 0).map(([name, own]) => [name, own.size]));
}
