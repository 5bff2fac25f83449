/** What JSON.parse does not tell: keys that stand twice in one object, of which it keeps the last. */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const COLON = 0x3a;

/** The first key that one of the objects in `json` has twice. `json` must be valid. */
export function findDuplicateKey(json: string): string | undefined {
  const objects: Set<string>[] = [];
  // A string is a key when a colon follows it.
  let text: readonly [number, number] = [0, 0];
  for (let i = 0; i < json.length; i++) {
    switch (json.charCodeAt(i)) {
      case QUOTE: {
        const begin = i++;
        for (; json.charCodeAt(i) !== QUOTE && i < json.length; i++) {
          if (json.charCodeAt(i) === BACKSLASH) i++;
        }
        text = [begin, i + 1];
        break;
      }
      case COLON: {
        const key: string = JSON.parse(json.slice(...text));
        const keys = objects.at(-1);
        if (keys?.has(key)) return key;
        keys?.add(key);
        break;
      }
      case OPEN_OBJECT:
        objects.push(new Set());
        break;
      case CLOSE_OBJECT:
        objects.pop();
        break;
    }
  }
  return undefined;
}
