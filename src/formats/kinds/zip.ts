/** What a zip is, by the names of its entries. */
import type { Contents } from './contents.ts';
import type { Kind } from './table.ts';

const LOCAL_HEADER = 'PK\x03\x04';
const DIRECTORY_ENTRY = 'PK\x01\x02';
const END_OF_DIRECTORY = 'PK\x05\x06';
const ZIP64_LOCATOR = 'PK\x06\x07';
const ZIP64_END = 'PK\x06\x06';

/** Of the directory, this much is looked at: some 10,000 entries. */
const MAX_DIRECTORY_BYTES = 1 << 20;

/** The end record has 22 bytes and a comment of at most 65,535; a zip64 locator of 20 bytes stands before it. */
const TAIL_BYTES = 20 + 22 + 0xffff;

export function isZip({ head }: Contents): boolean {
  const start = head.toString('latin1', 0, 4);
  return start === LOCAL_HEADER || start === END_OF_DIRECTORY;
}

/** Tells the kind by the directory, or, where the zip has lost its end, by the entries that its head shows. */
export async function zipKind(contents: Contents): Promise<{ kind: Kind; truncated: boolean }> {
  const listed = contents.size === undefined ? undefined : await directoryNames(contents, contents.size);
  const names = listed ?? headNames(contents.head);
  return { kind: kindOf(names), truncated: listed === undefined && contents.size !== undefined };
}

/** What each kind's entries look like; the first that fits. */
const ENTRIES: readonly (readonly [Kind, RegExp])[] = [
  ['torch-package', /(^|\/)\.data\/(version|extern_modules)$/],
  ['torch-export', /(^|\/)(serialized_exported_program\.json|archive_format)$/],
  ['torchscript', /(^|\/)(constants\.pkl|code\/.*)$/],
  ['torch', /(^|\/)data\.pkl$/],
  ['keras', /^model\.weights\.h5$/],
  ['office', /^\[Content_Types\]\.xml$/],
];

function kindOf(names: readonly string[]): Kind {
  const isTorch = names.some((name) => /(^|\/)data\.pkl$/.test(name));
  for (const [kind, pattern] of ENTRIES) {
    // Any zip may hold a folder named code.
    if (kind === 'torchscript' && !isTorch) continue;
    if (names.some((name) => pattern.test(name))) return kind;
  }
  return names.length > 0 && names.every((name) => name.endsWith('.npy')) ? 'npz' : 'zip';
}

/** The names in the directory; undefined where there is none that can be read. */
async function directoryNames({ read }: Contents, size: number): Promise<string[] | undefined> {
  const tail = await read(Math.max(0, size - TAIL_BYTES), TAIL_BYTES);
  const end = tail.lastIndexOf(END_OF_DIRECTORY, undefined, 'latin1');
  if (end < 0 || end + 22 > tail.length) return undefined;
  let bytes = tail.readUInt32LE(end + 12);
  let at = tail.readUInt32LE(end + 16);
  if (end >= 20 && tail.toString('latin1', end - 20, end - 16) === ZIP64_LOCATOR) {
    const wide = await read(Math.min(Number(tail.readBigUInt64LE(end - 12)), size), 56);
    if (wide.length < 56 || wide.toString('latin1', 0, 4) !== ZIP64_END) return undefined;
    bytes = Number(wide.readBigUInt64LE(40));
    at = Number(wide.readBigUInt64LE(48));
  }
  if (at > size) return undefined;
  return entryNames(await read(at, Math.min(bytes, MAX_DIRECTORY_BYTES, size - at)), DIRECTORY_ENTRY);
}

/** The names in the local headers, as far as each says where the next one is. */
function headNames(head: Buffer): string[] {
  return entryNames(head, LOCAL_HEADER);
}

/** Where an entry's header has the lengths of its parts, and what follows them. */
const LAYOUTS = {
  [DIRECTORY_ENTRY]: { bytes: 46, name: 28, extra: 30, comment: 32, data: undefined },
  [LOCAL_HEADER]: { bytes: 30, name: 26, extra: 28, comment: undefined, data: 18 },
} as const;

function entryNames(bytes: Buffer, signature: keyof typeof LAYOUTS): string[] {
  const layout = LAYOUTS[signature];
  const names: string[] = [];
  let at = 0;
  while (at + layout.bytes <= bytes.length && bytes.toString('latin1', at, at + 4) === signature) {
    const name = at + layout.bytes;
    const nameBytes = bytes.readUInt16LE(at + layout.name);
    names.push(bytes.toString('utf8', name, name + nameBytes));
    at = name + nameBytes + bytes.readUInt16LE(at + layout.extra);
    if (layout.comment !== undefined) at += bytes.readUInt16LE(name - layout.bytes + layout.comment);
    if (layout.data !== undefined) at += bytes.readUInt32LE(name - layout.bytes + layout.data);
  }
  return names;
}
