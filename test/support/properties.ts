/** fast-check, with this project's seed: a run fails for everybody or for nobody. */
import fc from 'fast-check';
import { SEED } from './seed.ts';

fc.configureGlobal({ seed: SEED });
export default fc;
export type * from 'fast-check';
