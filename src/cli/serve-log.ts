/** The log of `hotrow serve`: one line per event, for people or as JSON. */
import { eventLine } from '../serve/recording/log-lines.ts';
import type { ServerEvent } from '../serve/server.ts';
import { printable } from '../text.ts';
import { NOTE_CHARACTERS, notice, printError, progress } from './print.ts';

export type LogForm = 'text' | 'json';
export const LOG_FORMS: readonly LogForm[] = ['text', 'json'];

/** What writes events to standard error. */
export function serveLog(form: LogForm): (event: ServerEvent) => void {
  return form === 'json' ? logJson : logText;
}

/** What there is to say of an event in a sentence; undefined: it is progress, or an error. */
function sentenceOf(event: ServerEvent): string | undefined {
  switch (event.kind) {
    case 'loaded': {
      const { device, precision, plan } = event.ready;
      return `loaded ${event.model}, version ${event.version}, on ${device}, ${precision}, plan ${plan}`;
    }
    case 'unloaded':
      return `unloaded ${event.model}, version ${event.version}`;
    case 'listening': {
      const host = event.host.includes(':') ? `[${event.host}]` : event.host;
      const grpc = event.grpcPort === undefined ? '' : `, gRPC on ${host}:${event.grpcPort}`;
      return `listening on ${event.tls ? 'https' : 'http'}://${host}:${event.port}${grpc}`;
    }
    case 'draining':
      return 'draining: no connection is accepted any more';
    case 'closed':
      return 'closed';
    case 'warning':
      return `warning: ${event.message}`;
    case 'loading':
    case 'load-failed':
    case 'error':
      return undefined;
    default:
      return event satisfies never;
  }
}

function logText(event: ServerEvent): void {
  const sentence = sentenceOf(event);
  if (event.kind === 'loading') progress(`${event.model} on ${event.device}: ${event.text}`);
  else if ('error' in event) printError(event.error, false);
  else if (sentence !== undefined) {
    progress('');
    notice(printable(sentence, NOTE_CHARACTERS));
  }
}

function messageOf(event: ServerEvent): string {
  if ('error' in event) return event.error.message;
  return event.kind === 'warning' ? event.message : (sentenceOf(event) ?? '');
}

/** What a line has beside what every line has. */
function fieldsOf(event: ServerEvent): Readonly<Record<string, string | number | undefined>> {
  if ('model' in event) return { model: event.model };
  return event.kind === 'listening' ? { port: event.port, grpcPort: event.grpcPort } : {};
}

function logJson(event: ServerEvent): void {
  // Progress is for people.
  if (event.kind === 'loading') return;
  const { kind } = event;
  const line = eventLine({
    time: Date.now(),
    level: 'error' in event ? 'error' : kind === 'warning' ? kind : 'info',
    event: kind,
    message: messageOf(event),
    fields: fieldsOf(event),
  });
  process.stderr.write(`${line}\n`);
}
