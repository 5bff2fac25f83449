/** The one message of a call, received into a slot. */
import type { ServerHttp2Stream } from 'node:http2';
import { constants, createGunzip, type Gunzip } from 'node:zlib';
import { deferred } from '../../deferred.ts';
import { RequestError } from '../../errors.ts';
import { type BodyRoom, BodySlot, type ReceivedBody, tooLarge } from '../requests/body-slot.ts';
import { FRAME_BYTES } from './frames.ts';

/** What is written at once of a message that is unpacked. */
const UNPACKED_BYTES = 64 << 10;

export class MessageReceiver {
  readonly #stream: ServerHttp2Stream;
  readonly #room: BodyRoom;
  readonly #packing: 'gzip' | undefined;
  readonly #done = deferred<ReceivedBody | undefined>();
  readonly #frame = new Uint8Array(FRAME_BYTES);
  #frameBytes = 0;
  /** Of the message, as it is sent. */
  #left = 0;
  #slot: BodySlot | undefined;
  #unpacking: Gunzip | undefined;
  #isOver = false;

  /** `packing`: of a message that says it is compressed. */
  constructor(stream: ServerHttp2Stream, room: BodyRoom, packing: 'gzip' | undefined) {
    this.#stream = stream;
    this.#room = room;
    this.#packing = packing;
    if (stream.destroyed) {
      this.#onGone();
      return;
    }
    stream.on('data', this.#onData);
    stream.once('end', this.#onEnd);
    stream.once('close', this.#onGone);
  }

  /**
   * The message, whose slot the caller gives back; undefined: the client went away. Where memory is short, one that takes long to come is
   * given up.
   * @throws ServeError BODY_TOO_LARGE; DeviceError OVERLOADED; RequestError REQUEST_INVALID. The rest is not read then.
   */
  get message(): Promise<ReceivedBody | undefined> {
    return this.#done.promise;
  }

  /** The rest is not read. */
  stop(error: Error): void {
    if (this.#isOver) return;
    this.#end();
    this.#stream.pause();
    this.#done.reject(error);
  }

  readonly #onData = (chunk: Buffer): void => {
    try {
      this.#take(chunk);
    } catch (error) {
      this.stop(error instanceof Error ? error : new Error(String(error)));
    }
  };

  readonly #onEnd = (): void => {
    if (this.#frameBytes < FRAME_BYTES || this.#left > 0) setImmediate(this.#onCutShort);
    else if (this.#unpacking === undefined) this.#finish();
    else this.#unpacking.end();
  };

  /** A stream that is reset ends too, and is known to be only after that. */
  readonly #onCutShort = (): void => {
    if (this.#stream.destroyed || this.#stream.aborted) this.#onGone();
    else
      this.stop(
        new RequestError('REQUEST_INVALID', 'the call ended before its message was whole', { hint: HINT }),
      );
  };

  readonly #onGone = (): void => {
    if (this.#isOver) return;
    this.#end();
    this.#done.resolve(undefined);
  };

  #take(chunk: Buffer): void {
    let at = 0;
    while (this.#frameBytes < FRAME_BYTES && at < chunk.length) {
      this.#frame[this.#frameBytes++] = chunk[at++] as number;
      if (this.#frameBytes === FRAME_BYTES) this.#begin();
    }
    if (at === chunk.length) return;
    const part = at === 0 ? chunk : chunk.subarray(at);
    this.#left -= part.length;
    if (this.#left < 0)
      throw new RequestError('REQUEST_INVALID', 'the call has more than one message', { hint: HINT });
    if (this.#unpacking === undefined) this.#slot?.add(part);
    else if (!this.#unpacking.write(part)) this.#stream.pause();
  }

  /** The frame has come. */
  #begin(): void {
    const [packed = 0] = this.#frame;
    const length = new DataView(this.#frame.buffer).getUint32(1);
    if (packed > 1)
      throw new RequestError('REQUEST_INVALID', 'the call has no message in a frame', { hint: HINT });
    if (packed === 1 && this.#packing === undefined)
      throw new RequestError(
        'REQUEST_INVALID',
        'the message is compressed, and grpc-encoding does not say how',
      );
    this.#left = length;
    if (length > this.#room.mostBytes) throw tooLarge(this.#room.mostBytes);
    this.#slot = new BodySlot(this.#room, packed === 0 ? length : undefined, (error) => this.stop(error));
    if (packed === 1) this.#unpacking = this.#unpacker(this.#slot);
  }

  /** A message of any length may come out: the slot is what bounds it. */
  #unpacker(slot: BodySlot): Gunzip {
    const unpacking = createGunzip({ chunkSize: UNPACKED_BYTES, finishFlush: constants.Z_FINISH });
    unpacking.on('data', (part: Buffer) => {
      if (this.#isOver) return;
      try {
        slot.add(part);
      } catch (error) {
        this.stop(error as Error);
      }
    });
    unpacking.on('drain', () => this.#stream.resume());
    unpacking.once('end', () => {
      if (!this.#isOver) this.#finish();
    });
    unpacking.once('error', (cause) =>
      this.stop(new RequestError('REQUEST_INVALID', `the message is no gzip: ${cause.message}`, { cause })),
    );
    return unpacking;
  }

  #finish(): void {
    try {
      const received = this.#slot?.whole();
      this.#end();
      this.#done.resolve(received);
    } catch (error) {
      this.stop(error as Error);
    }
  }

  /** What has come is given back, but what is the caller's. */
  #end(): void {
    this.#isOver = true;
    this.#stream.off('data', this.#onData);
    this.#stream.off('close', this.#onGone);
    this.#stream.off('end', this.#onEnd);
    this.#slot?.giveUp();
    this.#unpacking?.destroy();
  }
}

const HINT = 'a call of this service sends one message, in a frame of gRPC';
