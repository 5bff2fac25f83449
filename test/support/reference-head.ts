/** A head as its blocks' references make it, one after the other, without a program or a layout. */
import { at } from '../../src/at.ts';
import { kindOf } from '../../src/dense/blocks.ts';
import type { Head, Value } from '../../src/model/head.ts';

type Values = Float32Array | Float64Array;

/** Values side by side: [batch, Σ width]. */
function joined(parts: readonly Value[], values: ReadonlyMap<string, Values>, batch: number): Float64Array {
  const width = parts.reduce((sum, part) => sum + part.width, 0);
  const all = new Float64Array(batch * width);
  for (let b = 0; b < batch; b++) {
    let column = b * width;
    for (const { name, width: own } of parts) {
      const part = values.get(name);
      if (part === undefined) throw new TypeError(`${name} is not there yet`);
      all.set(part.subarray(b * own, (b + 1) * own), column);
      column += own;
    }
  }
  return all;
}

/** The outputs of a head by their names, [batch, width] each. */
export async function referenceHead(
  head: Head,
  { batch, dense, pooled }: { readonly batch: number; readonly dense: Float32Array; readonly pooled: Values },
): Promise<ReadonlyMap<string, Float64Array>> {
  const values = new Map<string, Values>([
    ['dense', dense],
    ['pooled', pooled],
  ]);
  for (const { block, inputs, vectors, output } of head.blocks) {
    const input = { batch, vectors, values: joined(inputs, values, batch) };
    values.set(output.name, await kindOf(block).reference(block, input));
  }
  return new Map(
    head.outputs.map((output, i) => [at(head.outputs, i).name, joined([output], values, batch)]),
  );
}
