import type { PickledValue } from './pickled-value.ts';

/** How many containers and placeholders a pickle may make: they take a hundred bytes or more from a file's one. */
const MAX_CONTAINERS = 2_000_000;

/** How many values a pickle may keep under numbers: torch.save keeps some ten a tensor. */
const MAX_MEMO = 1 << 22;

/** Pushed where a MARK is. */
const MARK = Symbol('mark');
type StackValue = PickledValue | typeof MARK;

/**
 * The stack that a pickle's opcodes work on, and the memo that keeps its values under numbers. What an opcode does not
 * find there, and containers without end, throw plain errors: the unpickler says where.
 */
export class PickleStack {
  readonly #values: StackValue[] = [];
  readonly #memo = new Map<number, PickledValue>();
  #containers = 0;

  /** Pushes a value that was not there before. */
  push(value: PickledValue): void {
    if (typeof value === 'object' && value !== null && ++this.#containers > MAX_CONTAINERS)
      throw new Error(`it has more than ${MAX_CONTAINERS} containers`);
    this.#values.push(value);
  }

  /** Pushes the top once more. */
  duplicate(): void {
    this.#values.push(this.peek());
  }

  mark(): void {
    this.#values.push(MARK);
  }

  pop(): PickledValue {
    const value = this.#values.pop();
    if (value === undefined || value === MARK) throw new Error('the stack is empty');
    return value;
  }

  /** The topmost `count` values, the deepest first. */
  popMany(count: number): PickledValue[] {
    return Array.from({ length: count }, () => this.pop()).reverse();
  }

  /** The values above the topmost mark, the deepest first; the mark goes with them. */
  popMark(): PickledValue[] {
    const mark = this.#values.lastIndexOf(MARK);
    if (mark < 0) throw new Error('there is no mark on the stack');
    const values = this.#values.splice(mark) as PickledValue[];
    values.shift();
    return values;
  }

  peek(): PickledValue {
    const value = this.#values.at(-1);
    if (value === undefined || value === MARK) throw new Error('the stack is empty');
    return value;
  }

  /** Keeps the topmost value under `key`. */
  memoise(key: number): void {
    this.#memo.set(key, this.peek());
    if (this.#memo.size > MAX_MEMO) throw new Error(`it keeps more than ${MAX_MEMO} values`);
  }

  /** Keeps the topmost value under the number of values kept so far. */
  memoiseNext(): void {
    this.memoise(this.#memo.size);
  }

  /** Pushes what was kept under `key`. */
  recall(key: number): void {
    const value = this.#memo.get(key);
    if (value === undefined) throw new Error(`memo ${key} was never written`);
    this.#values.push(value);
  }
}
