/** Requests of a server, as lists: written into slots in every form that a record may have, and merged by plain code. */
import type { Bags } from '../../src/embedding/bag.ts';
import { NativeMemory } from '../../src/ffi/host-memory.ts';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import {
  type BagsAt,
  type IntegersAt,
  type PieceAt,
  type RecordDescription,
  type SlotView,
  viewSlot,
  writeRecord,
} from '../../src/serve/records/record.ts';
import type { RecordModel, RecordShape, RecordTable } from '../../src/serve/records/record-model.ts';
import type { Random } from './random.ts';

export interface ListedTable {
  readonly perUser: boolean;
  /** Row numbers of each bag, of samples or of users. */
  readonly bags: readonly (readonly number[])[];
  /** As the bags. */
  readonly weights?: readonly (readonly number[])[];
}

export interface ListedRequest {
  readonly samples: number;
  /** [U + 1]. */
  readonly users?: readonly number[];
  /** Fu. */
  readonly userFeatures: number;
  /** [U, Fu]. */
  readonly userDense: Float32Array;
  /** [B, F − Fu]. */
  readonly dense: Float32Array;
  readonly tables: readonly ListedTable[];
}

export interface RequestSpec {
  readonly most?: number;
  readonly users?: boolean;
  /** Dense features of any bits. */
  readonly anyBits?: boolean;
}

/** A request with or without users, some of whom have no candidates; with or without weights, by table. */
export function randomRequest(random: Random, shape: RecordShape, spec: RequestSpec = {}): ListedRequest {
  const { most = 6, users: mayHaveUsers = true, anyBits = false } = spec;
  const samples = random.integer(0, most);
  const hasUsers = mayHaveUsers && random.integer(0, 1) === 1;
  const users = hasUsers ? starts(random, samples) : undefined;
  const count = users === undefined ? 0 : users.length - 1;
  const userFeatures = users === undefined ? 0 : random.integer(0, shape.denseFeatures);
  const floats = (length: number) => (anyBits ? random.bits(length) : random.reals(length));
  return {
    samples,
    ...(users && { users }),
    userFeatures,
    userDense: floats(count * userFeatures),
    dense: floats(samples * (shape.denseFeatures - userFeatures)),
    tables: shape.tables.map((table) => {
      const perUser = users !== undefined && random.integer(0, 2) > 0;
      return randomTableBags(random, table, perUser, perUser ? count : samples);
    }),
  };
}

function starts(random: Random, samples: number): number[] {
  const cuts = Array.from({ length: random.integer(0, 3) }, () => random.integer(0, samples));
  return [0, ...cuts.sort((a, b) => a - b), samples];
}

function randomTableBags(random: Random, table: RecordTable, perUser: boolean, count: number): ListedTable {
  const longest = random.pick([0, 1, 5]);
  // Bags of one length, every now and then, so that they may be written evenly.
  const even = random.integer(0, 2) === 0;
  const row = () => random.integer(table.pruned ? -1 : 0, table.rows - 1);
  const bags = Array.from({ length: count }, () =>
    Array.from({ length: even ? longest : random.integer(0, longest) }, row),
  );
  const weighted = table.takesWeights && random.integer(0, 2) === 0;
  return { perUser, bags, ...(weighted && { weights: bags.map((bag) => [...random.reals(bag.length)]) }) };
}

/** Writes arrays behind the header, each at any byte. */
class Body {
  readonly parts: { readonly start: number; readonly bytes: Uint8Array }[] = [];
  end: number;
  constructor(
    readonly random: Random,
    from: number,
  ) {
    this.end = from;
  }

  put(array: ArrayBufferView): number {
    const start = this.end + this.random.integer(0, 9);
    this.parts.push({ start, bytes: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) });
    this.end = start + array.byteLength;
    return start;
  }

  integers(values: readonly number[], int64: boolean): IntegersAt {
    return { at: this.put(int64 ? BigInt64Array.from(values, BigInt) : Int32Array.from(values)), int64 };
  }
}

export interface Written {
  readonly memory: NativeMemory;
  readonly slot: SlotView;
  readonly bytes: number;
}

/** The request's record, in a slot of its own; every choice of its form is random. */
export function writeListed(random: Random, model: RecordModel, request: ListedRequest): Written {
  const { samples, users, userFeatures, userDense, dense, tables } = request;
  const body = new Body(random, model.headerBytes);
  const { pieces, rest } =
    random.integer(0, 1) === 0 ? intoPieces(random, tables) : { pieces: [], rest: tables.map((_, t) => t) };
  const description: RecordDescription = {
    samples,
    denseAt: body.put(dense),
    ...(users && {
      users: {
        count: users.length - 1,
        startsAt: body.put(Int32Array.from(users)),
        denseFeatures: userFeatures,
        denseAt: body.put(userDense),
      },
    }),
    tables: tables.map((own, t) => {
      if (!rest.includes(t)) return undefined;
      // Tables without lookups need not be told of at all.
      const isNothing = !own.perUser && own.weights === undefined && own.bags.flat().length === 0;
      if (isNothing && random.integer(0, 1) === 0) return undefined;
      return bagsAt(body, own);
    }),
    pieces: pieces.map((numbers) => pieceAt(body, numbers, tables)),
  };
  const memory = new NativeMemory(body.end);
  const slot = viewSlot(memory.address, memory.bytes);
  for (const { start, bytes } of body.parts) slot.bytes.set(bytes, start);
  writeRecord(model, slot, description);
  return { memory, slot, bytes: body.end };
}

/** Some of the tables in pieces of a kind, each in any order. */
function intoPieces(random: Random, tables: readonly ListedTable[]): { pieces: number[][]; rest: number[] } {
  const numbers = tables.map((_, t) => t).sort(() => random.next() - 0.5);
  const chosen = numbers.filter(() => random.integer(0, 3) > 0);
  const kinds = new Map<string, number[]>();
  for (const t of chosen) {
    const own = tables[t] as ListedTable;
    const kind = `${own.perUser} ${own.weights === undefined}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), t]);
  }
  return { pieces: [...kinds.values()], rest: numbers.filter((t) => !chosen.includes(t)) };
}

function pieceAt(body: Body, numbers: readonly number[], tables: readonly ListedTable[]): PieceAt {
  const { random } = body;
  const own = numbers.map((t) => tables[t] as ListedTable);
  const lists = own.flatMap(({ bags }) => bags);
  const weights = own.flatMap((table) => table.weights?.flat() ?? []);
  const values = body.integers(lists.flat(), random.integer(0, 1) === 0);
  return {
    tables: numbers,
    values,
    lookups: lists.flat().length,
    lengths: body.integers(
      lists.map((bag) => bag.length),
      random.integer(0, 1) === 0,
    ),
    ...(own[0]?.weights && { weightsAt: body.put(Float32Array.from(weights)) }),
    perUser: own[0]?.perUser === true,
  };
}

function bagsAt(body: Body, { perUser, bags, weights }: ListedTable): BagsAt {
  const { random } = body;
  const lengths = bags.map((bag) => bag.length);
  const offsets = [0];
  for (const length of lengths) offsets.push((offsets.at(-1) as number) + length);
  const int64 = random.integer(0, 1) === 0;
  const isEven = new Set(lengths).size <= 1;
  const form = random.pick([
    'lengths',
    'offsets',
    'end',
    'end and more',
    ...(isEven ? ['even', 'even'] : []),
  ]);
  // Lookups of no bag, which are rows all the same.
  const tail = form === 'end and more' || (form === 'offsets' && bags.length === 0) ? [0, 0] : [];
  const indices = [...bags.flat(), ...tail];
  const bounds =
    form === 'lengths'
      ? ({ kind: 'lengths', ...body.integers(lengths, int64) } as const)
      : form === 'even'
        ? ({ kind: 'even' } as const)
        : ({
            kind: 'offsets',
            hasEnd: form !== 'offsets',
            ...body.integers(form === 'offsets' ? offsets.slice(0, -1) : offsets, int64),
          } as const);
  return {
    indices: body.integers(indices, random.integer(0, 1) === 0),
    lookups: indices.length,
    bounds,
    ...(weights && { weightsAt: body.put(Float32Array.from([...weights.flat(), ...tail])) }),
    perUser,
  };
}

/** The user of each sample. */
function usersOf({ samples, users }: ListedRequest): number[] {
  if (users === undefined) return Array.from({ length: samples }, (_, b) => b);
  return users.slice(1).flatMap((end, u) => Array.from({ length: end - (users[u] as number) }, () => u));
}

function denseOf(request: ListedRequest, features: number): Float32Array {
  const { samples, userFeatures, userDense, dense } = request;
  const all = new Uint32Array(samples * features);
  const [own, ofUsers] = [bits(dense), bits(userDense)];
  const ownFeatures = features - userFeatures;
  usersOf(request).forEach((u, b) => {
    if (userFeatures > 0) all.set(ofUsers.subarray(u * userFeatures, (u + 1) * userFeatures), b * features);
    all.set(own.subarray(b * ownFeatures, (b + 1) * ownFeatures), b * features + userFeatures);
  });
  return new Float32Array(all.buffer);
}

function bits(floats: Float32Array): Uint32Array {
  return new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
}

interface Listed {
  readonly bags: readonly (readonly number[])[];
  readonly weights: readonly (readonly number[])[] | undefined;
}

/** A bag per sample. */
function bySample(request: ListedRequest, { perUser, bags, weights }: ListedTable): Listed {
  if (!perUser) return { bags, weights };
  const order = usersOf(request);
  const of = <T>(lists: readonly T[]) => order.map((u) => lists[u] as T);
  return { bags: of(bags), weights: weights && of(weights) };
}

function toBags({ rows }: RecordTable, lists: readonly Listed[], perUser: boolean): Bags {
  const bags = lists.flatMap((own) => own.bags);
  const indices = bags.flat();
  const offsets = new Int32Array(bags.length + 1);
  bags.forEach((bag, b) => {
    offsets[b + 1] = (offsets[b] as number) + bag.length;
  });
  const weights = lists.some((own) => own.weights !== undefined)
    ? Float32Array.from(lists.flatMap((own) => own.weights?.flat() ?? own.bags.flat().map(() => 1)))
    : undefined;
  return {
    indices: rows > 2 ** 31 - 1 ? BigInt64Array.from(indices, BigInt) : Int32Array.from(indices),
    offsets,
    ...(weights && { weights }),
    ...(perUser && { perUser }),
  };
}

/** What a merge of the requests gives, by the rule that the library's header states. */
export function referenceMerge(shape: RecordShape, requests: readonly ListedRequest[]): DlrmRequest {
  const withUsers = requests.filter(({ users }) => users !== undefined && users.length > 1);
  const perUser = shape.tables.map(
    (_, t) => withUsers.length > 0 && withUsers.every(({ tables }) => tables[t]?.perUser === true),
  );
  const users = [0];
  let samples = 0;
  for (const { samples: own, users: given } of requests) {
    const ends = given === undefined ? Array.from({ length: own }, (_, b) => b + 1) : given.slice(1);
    for (const end of ends) users.push(samples + end);
    samples += own;
  }
  const dense = requests.flatMap((request) => [...bits(denseOf(request, shape.denseFeatures))]);
  return {
    batchSize: samples,
    dense: new Float32Array(Uint32Array.from(dense).buffer),
    denseFeatures: shape.denseFeatures,
    bags: shape.tables.map((table, t) => {
      const own = requests.map((request): Listed => {
        const listed = request.tables[t] as ListedTable;
        return perUser[t] === true
          ? { bags: listed.bags, weights: listed.weights }
          : bySample(request, listed);
      });
      return toBags(table, own, perUser[t] === true);
    }),
    ...(perUser.includes(true) && { users: Int32Array.from(users) }),
  };
}

/** The request by itself, without users: a bag for each sample. */
export function alone(shape: RecordShape, request: ListedRequest): DlrmRequest {
  return {
    batchSize: request.samples,
    dense: denseOf(request, shape.denseFeatures),
    denseFeatures: shape.denseFeatures,
    bags: shape.tables.map((table, t) =>
      toBags(table, [bySample(request, request.tables[t] as ListedTable)], false),
    ),
  };
}
