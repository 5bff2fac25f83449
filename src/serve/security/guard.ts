/** Who may ask a server for what: tokens, and the pages of other origins. One place, for every protocol. */
import { ServeError } from '../../errors.ts';
import { shortName } from '../protocol/refuse.ts';
import type { Route } from '../protocol/route.ts';
import { isOfLoopback } from './loopback.ts';
import { holdsToken, type TokenDigests } from './tokens.ts';

/** What a request must bring: nothing, a token where the server has some, or a token for its administration. */
export type Need = 'nothing' | 'token' | 'admin-token';

const NEEDS: Readonly<Record<Route['kind'], Need>> = {
  // Those who start and stop servers have no token.
  live: 'nothing',
  ready: 'nothing',
  // It holds nothing of this server, and asks for a token where its figures need one.
  page: 'nothing',
  events: 'token',
  'server-metadata': 'token',
  metrics: 'token',
  'repository-index': 'token',
  statistics: 'token',
  'model-metadata': 'token',
  'model-ready': 'token',
  infer: 'token',
  load: 'admin-token',
  unload: 'admin-token',
  patch: 'admin-token',
};

/** What a request must bring; `route` is undefined for what is not there: strangers do not learn that. */
export function needOf(route: Pick<Route, 'kind'> | undefined): Need {
  return route === undefined ? 'token' : NEEDS[route.kind];
}

/** What requests are checked by. */
export interface AccessRules {
  /** Undefined: whoever reaches the server may ask. */
  readonly tokens?: TokenDigests;
  /** For its administration, and for all else too. */
  readonly adminTokens?: TokenDigests;
  /** Whether there is administration without tokens of its own: whoever may ask may do it. Default: nobody may. */
  readonly isAdministered?: boolean;
  /** Origins whose pages may ask: `https://shop.example`. */
  readonly origins: readonly string[];
}

/** Fields of a request that say who asks. */
export interface AskedBy {
  readonly authorization?: string | undefined;
  readonly origin?: string | undefined;
  readonly host?: string | undefined;
}

type Headers = Readonly<Record<string, string>>;

/** What pages may send and read beside what every page may. */
const SENT = 'authorization, content-type, inference-header-content-length, traceparent, tracestate';
const READ = 'inference-header-content-length, retry-after, www-authenticate';
const PREFLIGHT_SECONDS = 7200;

export class Guard {
  readonly #wanted: Readonly<Record<Need, TokenDigests | undefined>>;
  readonly #origins: ReadonlySet<string>;
  readonly #isAdministered: boolean;

  constructor({ tokens, adminTokens, isAdministered = false, origins }: AccessRules) {
    const all = tokens === undefined ? undefined : [...tokens, ...(adminTokens ?? [])];
    this.#wanted = { nothing: undefined, token: all, 'admin-token': adminTokens ?? all };
    this.#isAdministered = isAdministered || adminTokens !== undefined;
    this.#origins = new Set(origins);
  }

  /**
   * @throws ServeError ORIGIN_FORBIDDEN for a page of an origin that may not ask, UNAUTHENTICATED without a token that is known,
   *   ADMIN_FORBIDDEN with one that gives no right to it, and where nobody has.
   */
  check(need: Need, { authorization, origin, host }: AskedBy): void {
    if (origin !== undefined && !this.#origins.has(origin) && !isOwn(origin, host))
      throw new ServeError('ORIGIN_FORBIDDEN', `pages of ${shortName(origin)} may not ask this server`);
    if (need === 'admin-token' && !this.#isAdministered)
      throw new ServeError(
        'ADMIN_FORBIDDEN',
        'this server does not let requests load, unload or patch models',
      );
    const wanted = this.#wanted[need];
    // A page may have a name of its own made to lead to this machine: a browser takes it for the server's then.
    if (need === 'admin-token' && wanted === undefined && !isOfLoopback(host ?? ''))
      throw new ServeError(
        'ADMIN_FORBIDDEN',
        `without tokens, administration goes by this machine's own names, not ${shortName(host ?? '')}`,
      );
    if (wanted === undefined || holdsToken(authorization, wanted)) return;
    if (need === 'admin-token' && holdsToken(authorization, this.#wanted.token ?? []))
      throw new ServeError('ADMIN_FORBIDDEN', 'this token is none for administration', {
        hint: 'send one of those of --admin-token-file',
      });
    const what = need === 'admin-token' ? 'a token for administration' : 'a token';
    throw new ServeError('UNAUTHENTICATED', `this needs ${what}`);
  }

  /** Fields for answers: a page may read them where its origin may ask. */
  answerHeaders(origin: string | undefined): Headers | undefined {
    if (this.#origins.size === 0) return undefined;
    if (origin === undefined || !this.#origins.has(origin)) return { vary: 'origin' };
    return { vary: 'origin', 'access-control-allow-origin': origin, 'access-control-expose-headers': READ };
  }

  /** Fields for the answer to what a browser asks before a page's request (OPTIONS); undefined: the page may not ask. */
  preflightHeaders(origin: string | undefined, methods: string): Headers | undefined {
    if (origin === undefined || !this.#origins.has(origin)) return undefined;
    return {
      'access-control-allow-methods': methods,
      'access-control-allow-headers': SENT,
      'access-control-max-age': String(PREFLIGHT_SECONDS),
    };
  }
}

/** Whether a page was loaded from this server. */
function isOwn(origin: string, host: string | undefined): boolean {
  return host !== undefined && (origin === `http://${host}` || origin === `https://${host}`);
}
