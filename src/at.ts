/** The entry at `index`. @throws RangeError naming the index where there is none: a defect of Hotrow's, not bad input. */
export function at<L extends ArrayLike<unknown>>(list: L, index: number): L[number] {
  if (Number.isInteger(index) && index >= 0 && index < list.length) return list[index];
  throw new RangeError(`a list of ${list.length} has no entry ${index}`);
}
