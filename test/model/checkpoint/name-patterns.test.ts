import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NamePattern } from '../../../src/model/checkpoint/name-patterns.ts';
import fc from '../../support/properties.ts';

const matched = (pattern: string, name: string) => {
  const match = new NamePattern(pattern).match(name);
  return match === undefined ? undefined : [match.prefix, Object.fromEntries(match.values)];
};

test('placeholders stand for numbers, every second number, and text', () => {
  assert.deepEqual(matched('bot_l.{2i}.weight', 'bot_l.4.weight'), ['', { i: 2 }]);
  assert.equal(matched('bot_l.{2i}.weight', 'bot_l.3.weight'), undefined);
  assert.deepEqual(matched('mlp.{2i+1}.bias', 'mlp.5.bias'), ['', { i: 2 }]);
  assert.equal(matched('mlp.{2i+1}.bias', 'mlp.0.bias'), undefined);
  assert.deepEqual(matched('bags.{name}.weight', 'a.bags.ads.by.country.weight'), [
    'a.',
    { name: 'ads.by.country' },
  ]);
  assert.deepEqual(matched('top.{i}.weight', 'model.net.top.0.weight'), ['model.net.', { i: 0 }]);
  assert.equal(matched('top.{i}.weight', 'stop.0.weight'), undefined, 'a part of a name is no name');
  assert.equal(matched('top.{i}.weight', 'top.01.weight'), undefined, 'numbers have no leading zeros');
  assert.equal(matched('a.b', 'a_b'), undefined, 'dots are dots');
});

test('what a pattern matches, it fills in again', () => {
  const name = fc.stringMatching(/^[a-z_]{1,8}(\.[a-z_]{1,8}){0,3}$/);
  fc.assert(
    fc.property(name, fc.nat(1000), (text, i) => {
      for (const pattern of ['x.{name}.w.{i}', '{name}.{2i}.bias', 'emb.{i}.{name}']) {
        const values = new Map<string, string | number>([
          ['name', text],
          ['i', i],
        ]);
        const own = new NamePattern(pattern);
        const match = own.match(own.fill(values));
        assert.ok(match !== undefined, pattern);
        assert.equal(match.prefix + own.fill(match.values), own.fill(values));
      }
    }),
  );
});

test('placeholders that are none are refused', () => {
  for (const pattern of [
    'a.{}.b',
    'a.{ii}',
    'a.{i}.{i}',
    'a.{name}.{name}',
    'a.{3x-1}',
    '{a}.{b}.{c}.{d}.{e}',
  ])
    assert.throws(() => new NamePattern(pattern), { code: 'DESCRIPTION_INVALID' }, pattern);
});
