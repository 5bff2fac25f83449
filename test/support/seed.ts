/** The seed of every random test: the same for everybody, another one by HOTROW_SEED. */
export const SEED = Number(process.env.HOTROW_SEED ?? 626_679);
