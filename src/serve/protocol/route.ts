/** What a method and a path ask for. */
import { RequestError, ServeError } from '../../errors.ts';
import { shortName } from './refuse.ts';

/** A model, and a version of it where the path says one. */
export interface ModelName {
  readonly model: string;
  readonly version?: string;
}

export type Route =
  | { readonly kind: 'page' | 'events' }
  | { readonly kind: 'live' | 'ready' | 'server-metadata' | 'metrics' | 'repository-index' }
  /** Without a model: of all. */
  | ({ readonly kind: 'statistics' } & Partial<ModelName>)
  | ({ readonly kind: 'model-metadata' | 'model-ready' } & ModelName)
  | ({ readonly kind: 'infer' } & ModelName)
  | { readonly kind: 'load' | 'unload' | 'patch'; readonly model: string };

/** What a request line asks for, or why it cannot be. */
export type Routed =
  | { readonly route: Route; readonly query: string }
  | { readonly error: ServeError | RequestError; readonly allow?: string };

const READS = ['GET', 'HEAD'];
const CALLS = ['POST'];

/**
 * `target`: the path as it came, with its query. Names are percent-decoded. `/v2/models/stats` is about all models: one of that
 * name goes with its version.
 */
export function routeOf(method: string, target: string): Routed {
  const mark = target.indexOf('?');
  const path = mark < 0 ? target : target.slice(0, mark);
  let segments: readonly string[];
  try {
    segments = path.slice(1).split('/');
    if (path.includes('%')) segments = segments.map(decodeURIComponent);
  } catch {
    return {
      error: new RequestError('REQUEST_INVALID', `the path ${shortName(path)} is not percent-encoded`),
    };
  }
  const found = path.startsWith('/') ? pathOf(segments) : undefined;
  if (found === undefined)
    return { error: new ServeError('ROUTE_UNKNOWN', `there is nothing at ${shortName(path)}`) };
  const { methods, route } = found;
  if (methods.includes(method)) return { route, query: mark < 0 ? '' : target.slice(mark + 1) };
  const allow = methods.join(', ');
  const message = `${shortName(path)} takes ${allow}, not ${shortName(method)}`;
  return { error: new ServeError('METHOD_NOT_ALLOWED', message), allow };
}

/** Routes requests, of which most ask for what the one before asked for. */
export class Router {
  #last: { readonly method: string; readonly target: string; readonly routed: Routed } | undefined;

  routeOf(method: string, target: string): Routed {
    const last = this.#last;
    if (last?.target === target && last.method === method) return last.routed;
    const routed = routeOf(method, target);
    // An error has the stack of its own request.
    if ('route' in routed) this.#last = { method, target, routed };
    return routed;
  }
}

interface Path {
  readonly methods: readonly string[];
  readonly route: Route;
}

function pathOf(segments: readonly string[]): Path | undefined {
  const [first, second, third, ...rest] = segments;
  if (segments.length === 1 && first === '') return read({ kind: 'page' });
  if (segments.length === 1 && first === 'metrics') return read({ kind: 'metrics' });
  if (first !== 'v2') return undefined;
  if (second === undefined || (second === '' && third === undefined))
    return read({ kind: 'server-metadata' });
  if (second === 'events' && third === undefined) return { methods: ['GET'], route: { kind: 'events' } };
  if (third === undefined || third === '') return undefined;
  switch (second) {
    case 'health':
      return rest.length === 0 && (third === 'live' || third === 'ready') ? read({ kind: third }) : undefined;
    case 'repository':
      return repositoryPath(third, rest);
    case 'models':
      return rest.length === 0 && third === 'stats' ? read({ kind: 'statistics' }) : modelPath(third, rest);
    default:
      return undefined;
  }
}

/** Behind `/v2/repository`: the index, or a model and what is to be done with it. */
function repositoryPath(third: string, rest: readonly string[]): Path | undefined {
  const [model, verb] = rest;
  if (third === 'index' && rest.length === 0) return { methods: CALLS, route: { kind: 'repository-index' } };
  if (third !== 'models' || model === undefined || model === '' || rest.length !== 2) return undefined;
  switch (verb) {
    case 'load':
      return { methods: CALLS, route: { kind: 'load', model } };
    case 'unload':
      return { methods: CALLS, route: { kind: 'unload', model } };
    case 'patches':
      return { methods: CALLS, route: { kind: 'patch', model } };
    default:
      return undefined;
  }
}

/** What stands behind a model's name: a version, perhaps, then a verb, perhaps. */
function modelPath(model: string, rest: readonly string[]): Path | undefined {
  const isVersioned = rest[0] === 'versions';
  const version = isVersioned ? rest[1] : undefined;
  if (isVersioned && (version === undefined || version === '')) return undefined;
  const verbs = rest.slice(isVersioned ? 2 : 0);
  if (verbs.length > 1) return undefined;
  const name: ModelName = version === undefined ? { model } : { model, version };
  switch (verbs[0]) {
    case undefined:
      return read({ kind: 'model-metadata', ...name });
    case 'ready':
      return read({ kind: 'model-ready', ...name });
    case 'stats':
      return read({ kind: 'statistics', ...name });
    case 'infer':
      return { methods: CALLS, route: { kind: 'infer', ...name } };
    default:
      return undefined;
  }
}

function read(route: Route): Path {
  return { methods: READS, route };
}
