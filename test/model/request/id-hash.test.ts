/** Ids to rows: published hashes, the documentation's table, and what integers, strings and bulk have in common. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import xxhash from 'xxhash-wasm';
import { UsageError } from '../../../src/errors.ts';
import { ID_HASHES, type IdHash } from '../../../src/model/inputs.ts';
import { idHasher } from '../../../src/model/request/id-hash.ts';
import fc from '../../support/properties.ts';

const MODULUS = 1000;
const open = (hash: IdHash, seed = 0, modulus = MODULUS) => idHasher({ hash, seed, modulus });

test('the XXH64 that is used gives the verification value of SMHasher', async () => {
  const { h64Raw } = await xxhash();
  const hashes = new BigUint64Array(256);
  const key = Uint8Array.from({ length: 256 }, (_, i) => i);
  for (let length = 0; length < 256; length++)
    hashes[length] = h64Raw(key.subarray(0, length), BigInt(256 - length));
  assert.equal(BigInt.asUintN(32, h64Raw(new Uint8Array(hashes.buffer), 0n)), 0x024b7cf4n);
});

test('xxhash64 gives what python-xxhash and voxen publish', async () => {
  const modulus = 2 ** 31;
  const row = (hash: bigint) => Number(hash % BigInt(modulus));
  // python-xxhash, tests/test.py.
  assert.equal((await open('xxhash64', 0, modulus)).ofString('a'), row(15154266338359012955n));
  assert.equal((await open('xxhash64', 1, modulus)).ofString('a'), row(16051599287423682246n));
  // voxen, its test of xxh64Fixed: of 8 bytes, from the reference implementation.
  const { ofInteger } = await open('xxhash64', 0, modulus);
  assert.equal(ofInteger(0), row(0x34c96acdcadb1bbbn));
  assert.equal(ofInteger(BigInt.asIntN(64, 0xc20369a413e28fc1n)), row(0xe887d97f3efe7b44n));
});

/** Rows of docs/id-hashes.md's table: id as JSON, seed, hash and row twice. */
const DOCUMENTED = [
  ...readFileSync(new URL('../../../docs/id-hashes.md', import.meta.url), 'utf8').matchAll(
    /^\| `(.+?)` +\| (\d+) +\| `([0-9a-f]{16})` \| (\d+) +\| `([0-9a-f]{8})` +\| (\d+) +\|$/gm,
  ),
].map(([, id, seed, xxh, xxhRow, murmur, murmurRow]) => ({
  id: id as string,
  seed: Number(seed),
  expected: [
    ['xxhash64', BigInt(`0x${xxh}`), Number(xxhRow)],
    ['murmur3_32', BigInt(`0x${murmur}`), Number(murmurRow)],
  ] as const,
}));

test('the documentation has a table of hashes', () => assert.equal(DOCUMENTED.length, 28));

for (const { id, seed, expected } of DOCUMENTED) {
  test(`the documented rows of ${id}, seed ${seed}`, async () => {
    for (const [hash, value, row] of expected) {
      assert.equal(Number(value % BigInt(MODULUS)), row);
      const { ofInteger, ofString } = await open(hash, seed);
      assert.equal(id.startsWith('"') ? ofString(JSON.parse(id)) : ofInteger(BigInt(id)), row, hash);
    }
  });
}

test('modulo is the remainder that is never negative', async () => {
  const { ofInteger, ofString } = await open('modulo');
  assert.equal(ofInteger(-1), 999);
  assert.ok(Object.is(ofInteger(-1000), 0), 'not -0');
  assert.equal(ofInteger(2n ** 63n - 1n), 807);
  assert.equal(ofInteger(-(2n ** 63n)), 192);
  assert.equal(ofString('-0001'), 999);
  assert.equal(ofString('+1234'), 234);
  assert.equal(ofString('9223372036854775807'), 807);
  for (const text of ['', ' 1', '1.0', '1e3', 'ff', '0x10', '+-1', '9223372036854775808'])
    assert.equal(ofString(text), undefined, JSON.stringify(text));
});

const RULES = fc.record({
  hash: fc.constantFrom(...ID_HASHES),
  seed: fc.nat({ max: 2 ** 32 - 1 }),
  modulus: fc.integer({ min: 1, max: 2 ** 31 }),
});

test('many integers get the rows that each gets by itself', async () => {
  const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  await fc.assert(
    fc.asyncProperty(
      RULES,
      fc.oneof(
        fc.bigInt64Array(),
        fc.array(int64).map(BigInt64Array.from.bind(BigInt64Array)),
        fc.int32Array(),
      ),
      async ({ hash, seed, modulus }, ids) => {
        const { ofInteger, ofIntegers } = await open(hash, hash === 'modulo' ? 0 : seed, modulus);
        const rows = [...ofIntegers(ids)];
        assert.deepEqual(
          rows,
          Array.from(ids as ArrayLike<bigint | number>, (id) => ofInteger(id)),
        );
        assert.ok(rows.every((row) => row >= 0 && row < modulus));
        if (hash !== 'modulo') return;
        const m = BigInt(modulus);
        const remainders = Array.from(ids as ArrayLike<bigint | number>, (id) => ((BigInt(id) % m) + m) % m);
        assert.deepEqual(rows.map(BigInt), remainders);
      },
    ),
  );
});

test('seeds and moduli outside their ranges are refused', async () => {
  const refused = { name: UsageError.name, code: 'USAGE' };
  for (const modulus of [0, -1, 1.5, 2 ** 31 + 1, Number.NaN])
    await assert.rejects(open('murmur3_32', 0, modulus), refused, `modulus ${modulus}`);
  await assert.rejects(open('murmur3_32', 2 ** 32), refused);
  await assert.rejects(open('xxhash64', 2 ** 53), refused);
  await assert.rejects(open('xxhash64', -1), refused);
  await assert.rejects(open('modulo', 1), refused);
});
