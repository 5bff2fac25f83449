/** What the page's script uses of a browser: these sources are checked beside those for Node, which has none of it. */

export interface PageElement {
  hidden: boolean;
  textContent: string | null;
  innerHTML: string;
  /** Of a field. */
  value: string;
  readonly dataset: Record<string, string | undefined>;
  addEventListener(event: string, heard: (event: { preventDefault(): void }) => void): void;
  focus(): void;
}

interface BrowserGlobals {
  readonly document: { title: string; getElementById(id: string): PageElement | null };
  readonly location: { readonly host: string; hash: string };
  readonly sessionStorage: {
    getItem(key: string): string | null;
    setItem(key: string, value: string): void;
    removeItem(key: string): void;
  };
}

export const { document, location, sessionStorage } = globalThis as unknown as BrowserGlobals;

/** An element of the document, which has it. */
export function element(id: string): PageElement {
  const found = document.getElementById(id);
  if (found === null) throw new RangeError(`the page has no #${id}`);
  return found;
}
