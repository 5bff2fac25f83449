/** Arrays start at multiples of this. */
const ALIGNMENT = 16;

/** What is reserved of a block, from its start on. */
export class Space {
  end = 0;

  /** Where `bytes` begin. */
  reserve(bytes: number): number {
    const start = this.end;
    this.end = Math.ceil((start + bytes) / ALIGNMENT) * ALIGNMENT;
    return start;
  }
}
