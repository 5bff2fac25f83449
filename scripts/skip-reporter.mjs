// A reporter of node:test: a line of JSON for each test, or group of them, that did not run to an end that counts.
// {"kind": "skip" | "todo" | "cancelled", "name": "group › test", "reason": "…"}; a reason may be empty.

/** How node says that a test was given up, not refuted. */
const CANCELLED = new Set(['cancelledByParent', 'testAborted', 'testTimeoutFailure']);

function told({ skip, todo, details }) {
  if (skip !== undefined) return ['skip', skip];
  if (todo !== undefined) return ['todo', todo];
  const { failureType, message } = details.error ?? {};
  return CANCELLED.has(failureType) ? ['cancelled', message] : undefined;
}

export default async function* skipReporter(events) {
  /** Names of what is under way, by depth. */
  const path = [];
  for await (const { type, data } of events) {
    if (type === 'test:start') {
      path.length = data.nesting;
      path.push(data.name);
    } else if (type === 'test:pass' || type === 'test:fail') {
      const found = told(data);
      if (found === undefined) continue;
      const [kind, reason] = found;
      const name = [...path.slice(0, data.nesting), data.name].join(' › ');
      yield `${JSON.stringify({ kind, name, reason: typeof reason === 'string' ? reason : '' })}\n`;
    }
  }
}
