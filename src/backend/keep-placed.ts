/** Notes what was placed, which it gives back. */
export type Keep = <P extends Disposable>(part: P) => P;

/** Places several parts of one thing: where `place` fails, what it kept until then is given back. @throws what `place` throws. */
export async function keepingPlaced<T>(place: (keep: Keep) => Promise<T>): Promise<T> {
  const kept: Disposable[] = [];
  try {
    return await place((part) => {
      kept.push(part);
      return part;
    });
  } catch (error) {
    for (const part of kept) part[Symbol.dispose]();
    throw error;
  }
}
