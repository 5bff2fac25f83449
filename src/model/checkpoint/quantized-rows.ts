/** What a checkpoint's metadata says of a table of quantised rows: `{"format": "int8", "dim": 128}`. */
import { isQuantized, type QuantizedRowFormat, ROW_FORMATS } from '../../embedding/row-format.ts';

export interface QuantizedRows {
  readonly format: QuantizedRowFormat;
  readonly dim: number;
}

export function quantizedRowsText({ format, dim }: QuantizedRows): string {
  return JSON.stringify({ format, dim });
}

/** Undefined: the text says no such thing. */
export function parseQuantizedRows(text: string): QuantizedRows | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { format: name, dim } = value as { format?: unknown; dim?: unknown };
  const format = ROW_FORMATS.find((known) => known === name);
  if (format === undefined || !isQuantized(format)) return undefined;
  if (!Number.isSafeInteger(dim) || (dim as number) < 1) return undefined;
  return { format, dim: dim as number };
}
