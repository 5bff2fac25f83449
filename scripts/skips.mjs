// What did not run, and whether that was to be expected: test/known-skips.mjs lists it.

/** The first line of a reason, which may go on to say at length what was tried; in messages of errors, ends of lines are escaped. */
export function firstLine({ kind, reason }) {
  const line = reason.split(/\n|\\n/)[0];
  const text = line === '' ? 'without a reason' : line;
  return kind === 'skip' ? text : `${kind}: ${text}`;
}

/** The entry of `known` that allows what did not run in `file`; only skips are ever allowed. */
function entryOf({ kind, reason }, file, known) {
  return kind === 'skip'
    ? known.find((entry) => entry.reason.test(reason) && entry.files.includes(file))
    : undefined;
}

/** Of [file, found]: those that no entry of `known` allows. */
export function newSkips(all, known) {
  return all.filter(([file, found]) => entryOf(found, file, known) === undefined);
}

/** A line for each reason, how often it was given and in how many files; the most frequent first. */
export function skipsByReason(all, known) {
  const byReason = new Map();
  for (const [file, found] of all) {
    const reason = firstLine(found);
    const entry = byReason.get(reason) ?? { count: 0, files: new Set(), lacks: undefined };
    entry.count++;
    entry.files.add(file);
    entry.lacks ??= entryOf(found, file, known)?.lacks;
    byReason.set(reason, entry);
  }
  return [...byReason]
    .toSorted(([, a], [, b]) => b.count - a.count)
    .map(([reason, { count, files, lacks = 'not in test/known-skips.mjs' }]) => {
      const where = files.size === 1 ? [...files][0] : `${files.size} files`;
      return `${String(count).padStart(5)} in ${where}: ${reason} (${lacks})`;
    });
}
