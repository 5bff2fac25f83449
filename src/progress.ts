/** Told what is under way, and where its steps can be counted, that it is at step `n` of `of`. */
export type OnProgress = (what: string, n?: number, of?: number) => void;
