import { latin1, type PickleCursor } from './pickle-cursor.ts';
import type { PickledValue } from './pickled-value.ts';

/** What an opcode pushes by itself: a constant, number, text or bytes; undefined for any other opcode. */
export function readLiteral(opcode: string, cursor: PickleCursor): PickledValue | undefined {
  switch (opcode) {
    case 'N':
      return null;
    case '\x88':
      return true;
    case '\x89':
      return false;
    case 'K':
      return cursor.uint8();
    case 'M':
      return cursor.uint16();
    case 'J':
      return cursor.int32();
    case 'G':
      return cursor.float64();
    case '\x8a': // LONG1
      return cursor.long(cursor.uint8());
    case '\x8b': // LONG4
      return cursor.long(cursor.int32());
    case 'I':
      return integerOrBool(cursor);
    case 'L':
      return cursor.decimal(cursor.line().replace(/L$/, ''));
    case 'F':
      return float(cursor.line());
    default:
      return readText(opcode, cursor);
  }
}

function readText(opcode: string, cursor: PickleCursor): PickledValue | undefined {
  switch (opcode) {
    case 'X': // BINUNICODE
      return cursor.utf8(cursor.uint32());
    case '\x8c': // SHORT_BINUNICODE
      return cursor.utf8(cursor.uint8());
    case '\x8d': // BINUNICODE8
      return cursor.utf8(cursor.size64());
    case 'V':
      return cursor.line().replace(/\\u([\da-f]{4})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
    case 'T': // BINSTRING
      return latin1(cursor.take(cursor.uint32()));
    case 'U': // SHORT_BINSTRING
      return latin1(cursor.take(cursor.uint8()));
    case 'S': // STRING, quoted
      return cursor.line().replace(/^(['"])(.*)\1$/s, '$2');
    case 'B': // BINBYTES
      return cursor.take(cursor.uint32());
    case 'C': // SHORT_BINBYTES
      return cursor.take(cursor.uint8());
    case '\x8e': // BINBYTES8
    case '\x96': // BYTEARRAY8
      return cursor.take(cursor.size64());
    default:
      return undefined;
  }
}

function integerOrBool(cursor: PickleCursor): PickledValue {
  const text = cursor.line();
  return text === '00' ? false : text === '01' ? true : cursor.decimal(text);
}

/** As Python's repr writes it. */
function float(text: string): number {
  const infinity = /^([+-]?)inf$/.exec(text);
  return infinity === null ? Number(text) : Number(`${infinity[1]}Infinity`);
}
