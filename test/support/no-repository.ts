import type { ModelRepository } from '../../src/serve/protocol/repository.ts';

const refuses = () => Promise.reject(new Error('there is no repository'));

/** For servers that are asked nothing about it. */
export const NO_REPOSITORY: ModelRepository = {
  index: refuses,
  load: refuses,
  unload: refuses,
  patch: refuses,
};
