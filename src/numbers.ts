/** Numbers as people read them. What is no finite number, such as a ratio to nothing, is `–`. */

const NONE = '–';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** 1536 → `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return NONE;
  const power = Math.min(UNITS.length - 1, bytes < 1024 ? 0 : Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${UNITS[power]}`;
}

/** At least three significant digits, at most two decimals: 0.05, 1.23, 12.3, 123. */
export function significant(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** 0.123 → `12 %`. */
export function percent(share: number, digits = 0): string {
  return Number.isFinite(100 * share) ? `${(100 * share).toFixed(digits)} %` : NONE;
}

/** A ratio with three significant digits: `1.24×`. */
export function times(ratio: number): string {
  return Number.isFinite(ratio) ? `${significant(ratio)}×` : NONE;
}

/** Three significant digits, however small or large: 0.000123, 1.23e-7. */
export function digits(value: number): string {
  const rounded = Number(value.toPrecision(3));
  return Number.isFinite(rounded) ? String(rounded) : NONE;
}

/** 0.999 → `p99.9`. */
export function quantileName(quantile: number): string {
  return `p${Number((100 * quantile).toFixed(3))}`;
}
