/** What a server of the Open Inference Protocol says of itself and of its model. */
import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import { untilAborted } from '../checks/abort.ts';
import { isList, isRecord } from '../checks/value.ts';
import { ClientError, ServeError, UsageError } from '../errors.ts';
import { Connections, type Reply, type Target } from './connections.ts';

/** A server, by its URL. */
export interface ServerUrl {
  readonly target: Target;
  /** Without credentials, and without a slash at its end. */
  readonly url: string;
  /** Its path, `` or `/prefix`. */
  readonly path: string;
  /** Of every request. */
  readonly headers: Readonly<Record<string, string>>;
}

/** `token`: bearer token, in place of the URL's credentials. @throws UsageError USAGE for what is no URL of http or https. */
export function serverUrl(text: string, token?: string): ServerUrl {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw new UsageError('USAGE', `${text} is no URL of a server`, {
      hint: 'URLs are like http://localhost:8000 or https://host/path',
    });
  }
  const { username, password, host, hostname, pathname, protocol, port } = url;
  const tls = protocol === 'https:';
  const path = pathname.replace(/\/+$/, '');
  const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`);
  const basic = username === '' && password === '' ? undefined : `Basic ${credentials.toString('base64')}`;
  const authorization = token === undefined ? basic : `Bearer ${token}`;
  return {
    target: {
      host: hostname.replace(/^\[(.*)\]$/, '$1'),
      port: port === '' ? (tls ? 443 : 80) : Number(port),
      tls,
    },
    url: `${protocol}//${host}${path}`,
    path,
    headers: {
      Host: host,
      ...(authorization === undefined ? {} : { Authorization: authorization }),
    },
  };
}

const featureSchema = Type.Object({
  name: Type.String(),
  rows: Type.Integer({ minimum: 1 }),
  /** What ids are: `rows` of the table, or what the server maps. */
  kind: Type.String(),
});
const metadataSchema = Type.Object({
  name: Type.String(),
  parameters: Type.Object({
    dense_features: Type.Optional(Type.Integer({ minimum: 0 })),
    features: Type.Array(featureSchema, { minItems: 1 }),
  }),
});

/** A feature of a served model. */
export type ServedFeature = Static<typeof featureSchema>;

/** A model, as its server describes it. */
export interface ServedModel {
  readonly name: string;
  readonly denseFeatures: number;
  readonly features: readonly ServedFeature[];
}

export interface ServerDescription {
  /** Name and version, where the server gives them. */
  readonly server: string | undefined;
  readonly model: ServedModel;
}

/**
 * Asks a server for a model; without a name, for the one that it has.
 * @throws ClientError; ServeError MODEL_UNKNOWN; UsageError USAGE where it has several; AbortError.
 */
export async function describeServer(
  server: ServerUrl,
  name: string | undefined,
  signal: AbortSignal,
): Promise<ServerDescription> {
  const about = await ask(server, '/v2', signal);
  const own = isRecord(about.value) ? [about.value.name, about.value.version] : [];
  const known = own.filter((text) => typeof text === 'string').join(' ');
  const model = name ?? (await onlyModel(server, signal));
  const { status, value } = await ask(server, `/v2/models/${encodeURIComponent(model)}`, signal);
  if (status === 404) throw new ServeError('MODEL_UNKNOWN', `${server.url} has no model ${model}`);
  if (status !== 200 || !Value.Check(metadataSchema, value)) {
    const [first] = status === 200 ? Value.Errors(metadataSchema, value) : [];
    const why = status === 200 ? `${first?.instancePath || '/'} ${first?.message}` : `status ${status}`;
    throw new ClientError('SERVER_ANSWER_INVALID', `${server.url}: the metadata of model ${model}: ${why}`, {
      hint: "Hotrow's servers list a model's features in the parameters of its metadata; of another server, nothing says what requests hold",
    });
  }
  const { parameters } = value as Static<typeof metadataSchema>;
  return {
    server: known === '' ? undefined : known,
    model: { name: model, denseFeatures: parameters.dense_features ?? 0, features: parameters.features },
  };
}

/** The name of the one model of a server. */
async function onlyModel(server: ServerUrl, signal: AbortSignal): Promise<string> {
  const { status, value } = await ask(server, '/v2/repository/index', signal, 'POST');
  const names = isList(value)
    ? value.flatMap((entry) => (isRecord(entry) && typeof entry.name === 'string' ? [entry.name] : []))
    : [];
  const [first] = names;
  if (status === 200 && first !== undefined && new Set(names).size === 1) return first;
  const why = names.length > 1 ? `has ${names.length} models` : 'does not say which models it has';
  throw new UsageError('USAGE', `${server.url} ${why}: --model names one`, {
    hint: names.length > 1 ? `its models are ${names.slice(0, 20).join(', ')}` : 'pass --model NAME',
  });
}

const PATIENCE_MS = 15_000;

async function ask(
  { target, path: prefix, headers, url }: ServerUrl,
  path: string,
  signal: AbortSignal,
  method: 'GET' | 'POST' = 'GET',
): Promise<{ readonly status: number; readonly value: unknown }> {
  const body = method === 'POST' ? '{}' : '';
  const lines = Object.entries({ ...headers, 'Content-Length': body.length }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  const message = Buffer.from(
    `${method} ${prefix}${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`,
    'latin1',
  );
  const connections = new Connections(target, 1);
  let timer: NodeJS.Timeout | undefined;
  try {
    const replied = new Promise<Reply>((resolve) => {
      connections.send(message, resolve);
      timer = setTimeout(() => resolve({ broken: 'no answer in 15 s' }), PATIENCE_MS);
    });
    const reply = await untilAborted(replied, signal, 'load');
    if ('broken' in reply)
      throw new ClientError('SERVER_UNREACHABLE', `${url} cannot be reached: ${reply.broken}`);
    return { status: reply.status, value: json(reply.body.toString('utf8')) };
  } finally {
    clearTimeout(timer);
    connections.close();
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
