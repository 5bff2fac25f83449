/**
 * Where the rows of each table live. It stands beside the plan, which says how rows are read: the same plan may run over
 * several placements. Pure.
 */
import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import { plainData } from '../checks/arguments.ts';
import { deepFrozen, listOf, shown, someOf, text } from '../checks/value.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { PlanError } from '../errors.ts';

export const PLACEMENT_VERSION = 1;

/** Places that rows may live in: `device`, the memory of the device that reads them, all rows of the table. */
export const ROW_LOCATIONS = ['device'] as const;
export type RowLocation = (typeof ROW_LOCATIONS)[number];

/** JSON Schema of every placement. */
export const placementSchema = deepFrozen(
  Type.Object(
    {
      version: Type.Literal(PLACEMENT_VERSION),
      tables: Type.Array(
        Type.Object(
          {
            table: Type.String({ description: 'its name' }),
            rows: Type.Union(ROW_LOCATIONS.map((location) => Type.Literal(location))),
          },
          { additionalProperties: false },
        ),
        { description: "one per table, in the model's order" },
      ),
    },
    { $id: 'hotrow-placement-1', title: 'Hotrow placement, version 1', additionalProperties: false },
  ),
);

export interface TablePlacement {
  readonly table: string;
  readonly rows: RowLocation;
}

export interface Placement {
  readonly version: typeof PLACEMENT_VERSION;
  /** One per table, in the model's order. */
  readonly tables: readonly TablePlacement[];
}

type Named = Pick<EmbeddingTable, 'name'>;

const NAMED = listOf(someOf<Named>({ name: text }));

/** All rows of all tables on the device. @throws UsageError OPTION_INVALID for what are no tables. */
export function devicePlacement(tables: readonly Named[]): Placement {
  return deepFrozen({
    version: PLACEMENT_VERSION,
    tables: NAMED(tables, 'devicePlacement: tables').map(({ name }) => ({
      table: name,
      rows: 'device' as const,
    })),
  });
}

/** Checks a placement's form; it is a copy. @throws PlanError PLACEMENT_INVALID naming the member that is wrong. */
export function parsePlacement(given: unknown, name = 'placement'): Placement {
  const source = text(name, 'parsePlacement: source');
  const value = plainData(given);
  if (Value.Check(placementSchema, value)) return deepFrozen(value as Static<typeof placementSchema>);
  const [first] = Value.Errors(placementSchema, value);
  const what = value === undefined ? `is ${shown(given)}` : (first?.message ?? 'does not fit the schema');
  throw new PlanError('PLACEMENT_INVALID', `${source}: ${first?.instancePath || '/'} ${what}`);
}

/** @throws PlanError PLACEMENT_ILLEGAL for a placement of other tables. */
export function checkPlacement({ tables: placed }: Placement, tables: readonly Named[]): void {
  if (placed.length !== tables.length)
    throw new PlanError(
      'PLACEMENT_ILLEGAL',
      `the placement has ${placed.length} tables, the model ${tables.length}`,
    );
  for (const [t, { name }] of tables.entries()) {
    const own = placed[t]?.table;
    if (own !== name)
      throw new PlanError(
        'PLACEMENT_ILLEGAL',
        `the placement's table ${t} is ${own}, the model's is ${name}`,
      );
  }
}

/** What a placement says, in a few words: `26 tables on the device`. @throws PlanError PLACEMENT_INVALID. */
export function placementLabel(placement: Placement): string {
  const { tables } = parsePlacement(placement, 'placementLabel: placement');
  return `${tables.length} ${tables.length === 1 ? 'table' : 'tables'} on the device`;
}
