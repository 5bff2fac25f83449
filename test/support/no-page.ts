/** For the HTTP of a server without a page. */
import { Watchers } from '../../src/serve/http/watchers.ts';

export const NO_PAGE = {
  page: { html: '', policy: '' },
  watchers: new Watchers({
    join: async () => {
      throw new Error('nobody watches here');
    },
    leave: () => {},
  }),
};
