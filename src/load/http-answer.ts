/** Answers of an HTTP/1.1 server, read as they come in. */
import { at } from '../at.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly body: Buffer;
  /** `Inference-Header-Content-Length`: how much of the body is JSON. */
  readonly jsonBytes?: number;
  /** Whether the connection can be used again. */
  readonly keepAlive: boolean;
  /** For how many seconds the server keeps an idle connection, where it says so. */
  readonly idleSeconds?: number;
}

const MOST_HEAD_BYTES = 65_536;
const MOST_BODY_BYTES = 2 ** 28;
const HEAD_END = '\r\n\r\n';

/** What is wrong with an answer that is none. */
export class MalformedAnswer extends Error {}

type Head = Omit<HttpAnswer, 'body'> & {
  /** Bytes of the body; `chunked`; undefined: until the connection ends. */
  readonly length: number | 'chunked' | undefined;
};

/** Reads one answer after the other. */
export class AnswerReader {
  #parts: Buffer[] = [];
  #bytes = 0;
  #head: Head | undefined;
  /** Bytes that are needed before it is worth looking again. */
  #needed = 0;

  /** Whether a part of an answer has come in. */
  get isAmid(): boolean {
    return this.#bytes > 0 || this.#head !== undefined;
  }

  /** The answer that `chunk` completes. @throws MalformedAnswer. */
  push(chunk: Buffer): HttpAnswer | undefined {
    this.#parts.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes < this.#needed) return undefined;
    if (this.#head === undefined && !this.#readHead()) return undefined;
    const { length } = this.#head as Head;
    if (length === 'chunked') return this.#readChunks();
    if (length === undefined) return undefined;
    this.#needed = length;
    if (this.#bytes < length) return undefined;
    return this.#complete(length, this.#joined().subarray(0, length));
  }

  /** The answer that the end of the connection completes. */
  end(): HttpAnswer | undefined {
    const head = this.#head;
    if (head === undefined || head.length !== undefined) return undefined;
    return this.#complete(this.#bytes, this.#joined());
  }

  #joined(): Buffer {
    if (this.#parts.length !== 1) this.#parts = [Buffer.concat(this.#parts)];
    return at(this.#parts, 0);
  }

  #readHead(): boolean {
    for (;;) {
      const data = this.#joined();
      const end = data.indexOf(HEAD_END);
      if (end < 0) {
        if (data.length > MOST_HEAD_BYTES) throw new MalformedAnswer('a head without an end');
        this.#needed = 0;
        return false;
      }
      const head = readHead(data.toString('latin1', 0, end));
      this.#drop(end + HEAD_END.length);
      // 100 Continue and its like are followed by the answer itself.
      if (head.status < 200) continue;
      this.#head = head;
      return true;
    }
  }

  #readChunks(): HttpAnswer | undefined {
    const data = this.#joined();
    const parts: Buffer[] = [];
    let bytes = 0;
    for (let next = 0; ; ) {
      const line = data.indexOf('\r\n', next);
      if (line < 0) return undefined;
      const [, digits] = /^([0-9a-f]{1,8})\s*(?:;.*)?$/i.exec(data.toString('latin1', next, line)) ?? [];
      if (digits === undefined) throw new MalformedAnswer('a chunk without a size');
      const size = Number.parseInt(digits, 16);
      bytes += size;
      if (bytes > MOST_BODY_BYTES) throw new MalformedAnswer('a body of more than 256 MiB');
      const begin = line + 2;
      if (data.length < begin + size + 2) return undefined;
      parts.push(data.subarray(begin, begin + size));
      next = begin + size + 2;
      // Trailers are not looked for: none of what is read here has them.
      if (size === 0) return this.#complete(next, Buffer.concat(parts));
    }
  }

  #complete(bytes: number, body: Buffer): HttpAnswer {
    const { length, ...head } = this.#head as Head;
    this.#drop(bytes);
    this.#head = undefined;
    this.#needed = 0;
    if (this.#bytes > 0) throw new MalformedAnswer('more than an answer');
    return { ...head, keepAlive: head.keepAlive && length !== undefined, body };
  }

  #drop(bytes: number): void {
    const rest = this.#joined().subarray(bytes);
    this.#parts = rest.length === 0 ? [] : [rest];
    this.#bytes = rest.length;
  }
}

function readHead(text: string): Head {
  const [, minor, status] = /^HTTP\/1\.([01]) (\d{3})(?: |\r\n|$)/.exec(text) ?? [];
  if (status === undefined) throw new MalformedAnswer('no answer of HTTP/1.1');
  const length = numberOf(/\r\ncontent-length:[ \t]*([^\r]*)/i.exec(text)?.[1]);
  if (length !== undefined && length > MOST_BODY_BYTES)
    throw new MalformedAnswer('a body of more than 256 MiB');
  const jsonBytes = numberOf(/\r\ninference-header-content-length:[ \t]*([^\r]*)/i.exec(text)?.[1]);
  const connection = /\r\nconnection:[ \t]*([^\r]*)/i.exec(text)?.[1]?.toLowerCase();
  const idle = /\r\nkeep-alive:[^\r]*timeout=(\d{1,6})/i.exec(text)?.[1];
  const hasBody = status !== '204' && status !== '304';
  return {
    status: Number(status),
    length: !hasBody ? 0 : /\r\ntransfer-encoding:[^\r]*chunked/i.test(text) ? 'chunked' : length,
    keepAlive: minor === '1' ? connection?.includes('close') !== true : connection === 'keep-alive',
    ...(jsonBytes === undefined ? {} : { jsonBytes }),
    ...(idle === undefined ? {} : { idleSeconds: Number(idle) }),
  };
}

function numberOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = text.trim();
  if (!/^\d{1,12}$/.test(value)) throw new MalformedAnswer('a length that is no number');
  return Number(value);
}
