/** Two kinds of work that must not meet: any number of one kind go side by side, none beside one of the other. */

interface Waiting<K> {
  readonly kind: K;
  readonly start: () => void;
}

export class Apart<K> {
  /** In the order of their calls. */
  readonly #waiting: Waiting<K>[] = [];
  #running = 0;
  /** What all of it is, while there is any. */
  #kind: K | undefined;
  /** What every piece of work ends with. */
  readonly #end: Disposable = { [Symbol.dispose]: () => this.#leave() };

  /** Work of a kind, until what is given back is disposed: at once, or when those before it have ended. */
  enter(kind: K): Disposable | Promise<Disposable> {
    if (this.#waiting.length === 0 && this.#fits(kind)) {
      this.#begin(kind);
      return this.#end;
    }
    return new Promise((resolve) => this.#waiting.push({ kind, start: () => resolve(this.#end) }));
  }

  #fits(kind: K): boolean {
    return this.#running === 0 || this.#kind === kind;
  }

  #begin(kind: K): void {
    this.#running += 1;
    this.#kind = kind;
  }

  #leave(): void {
    this.#running -= 1;
    for (;;) {
      const [next] = this.#waiting;
      if (next === undefined || !this.#fits(next.kind)) return;
      this.#waiting.shift();
      this.#begin(next.kind);
      next.start();
    }
  }
}
