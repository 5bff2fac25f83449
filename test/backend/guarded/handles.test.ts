/** Handles: what is behind one stays while it is used, and is given back once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Handles, Held } from '../../../src/backend/guarded/handles.ts';

class Part implements Disposable {
  disposed = 0;

  [Symbol.dispose](): void {
    this.disposed++;
  }
}

test('what is disposed during a run is given back after the last one', () => {
  const part = new Part();
  const held = new Held('a part', part);
  const [first, second] = [held.hold(), held.hold()];
  held.dispose();
  held.dispose();
  assert.throws(() => held.inner, { code: 'DISPOSED', message: /a part was used/ });
  first[Symbol.dispose]();
  assert.equal(part.disposed, 0);
  second[Symbol.dispose]();
  assert.equal(part.disposed, 1);
  const idle = new Part();
  const other = new Held('a part', idle);
  assert.equal(other.inner, idle);
  other.dispose();
  other.dispose();
  assert.equal(idle.disposed, 1);
});

test('what a part needs stays as long, and is gone for it when it is disposed', () => {
  const [tables, bags] = [new Part(), new Part()];
  const parent = new Held('tables', tables);
  const child = new Held('bags', bags, parent);
  const run = child.hold();
  parent.dispose();
  assert.equal(tables.disposed, 0);
  assert.throws(() => child.inner, { code: 'DISPOSED', message: /tables was used/ });
  run[Symbol.dispose]();
  assert.deepEqual([tables.disposed, bags.disposed], [1, 0]);
  child.dispose();
  assert.equal(bags.disposed, 1);
});

test('handles are known to the backend that gave them, by their kind, until they are disposed', () => {
  const buffers = new Handles<Part, { readonly length: number }>('a buffer', 'cpu');
  const others = new Handles<Part, object>('a buffer', 'cuda:0');
  const layers = new Handles<Part, object>('a layer', 'cpu');
  const part = new Part();
  const handle = buffers.give(part, { length: 3 }, { length: 3 });
  assert.ok(Object.isFrozen(handle));
  assert.deepEqual(Object.keys(handle), ['length']);
  assert.equal(buffers.of(handle, 'a').held.inner, part);
  assert.equal(others.ofAny(handle, 'a').held.inner, part);
  assert.deepEqual([buffers.gave(part), others.gave(part)], [true, false]);
  const refused = (run: () => unknown, message: RegExp) =>
    assert.throws(run, { code: 'OPTION_INVALID', message });
  refused(() => others.of(handle, 'a'), /one on cpu/);
  refused(() => layers.of(handle, 'a'), /expected a layer that this backend gave/);
  refused(() => layers.ofAny(handle, 'a'), /expected a layer that a backend gave/);
  for (const value of [{ ...handle }, {}, null, 3, undefined]) {
    refused(() => buffers.of(value, 'a'), /expected a buffer that this backend gave/);
    refused(() => buffers.ofAny(value, 'a'), /expected a buffer that a backend gave/);
  }
  handle[Symbol.dispose]();
  assert.equal(part.disposed, 1);
  for (const find of [() => buffers.of(handle, 'a'), () => others.ofAny(handle, 'a')])
    assert.throws(find, { code: 'DISPOSED' });
});
