/** What both ends know of protobuf's wire format. */
import type { Scalar } from './fields.ts';

/** How the bytes behind a field's tag are to be read: the lower three bits of the tag. */
export const WIRE = { varint: 0, fixed64: 1, bytes: 2, groupStart: 3, groupEnd: 4, fixed32: 5 } as const;

/** Of single values. */
export const WIRE_OF: Readonly<Record<Scalar, number>> = {
  bool: WIRE.varint,
  int32: WIRE.varint,
  uint32: WIRE.varint,
  int64: WIRE.varint,
  uint64: WIRE.varint,
  float: WIRE.fixed32,
  double: WIRE.fixed64,
  string: WIRE.bytes,
  bytes: WIRE.bytes,
};

/** Where the key and the value of a map's entry stand. */
export const MAP_KEY = 1;
export const MAP_VALUE = 2;
