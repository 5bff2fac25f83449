/** The body of an HTTP request, received into a slot. */
import type { IncomingMessage } from 'node:http';
import { type BodyRoom, BodySlot, type ReceivedBody } from '../requests/body-slot.ts';

/**
 * Receives the body. Undefined: the client went away before its end. Where memory is short, a body that takes long to come is given up.
 * @throws ServeError BODY_TOO_LARGE; DeviceError OVERLOADED where slots take all memory that there is for them. The rest of the body
 *   is not read then.
 */
export async function receiveBody(
  request: IncomingMessage,
  room: BodyRoom,
): Promise<ReceivedBody | undefined> {
  const header = request.headers['content-length'];
  const coming = new BodySlot(room, header === undefined ? undefined : Number(header), (error) =>
    reading.stop(error),
  );
  const reading = read(request, (chunk) => coming.add(chunk));
  try {
    return (await reading.whole) ? coming.whole() : undefined;
  } finally {
    coming.giveUp();
  }
}

/** A body that is being read. */
export interface Reading {
  /** False: the client went away. Rejects with what `take` throws, or what reading was stopped with. */
  readonly whole: Promise<boolean>;
  /** The rest is not read. */
  stop(error: Error): void;
}

/** Reads to the end. `take` is not called again once `whole` has settled. */
export function read(request: IncomingMessage, take: (chunk: Buffer) => void): Reading {
  let stop: (error: Error) => void = () => {};
  const whole = new Promise<boolean>((resolve, reject) => {
    const onData = (chunk: Buffer) => {
      try {
        take(chunk);
      } catch (error) {
        stop(error instanceof Error ? error : new Error(String(error)));
      }
    };
    const onGone = () => {
      request.off('data', onData);
      resolve(false);
    };
    stop = (error) => {
      request.off('data', onData);
      request.pause();
      reject(error);
    };
    request.on('data', onData);
    request.on('end', () => resolve(request.complete));
    request.on('error', onGone);
    request.on('close', onGone);
  });
  return { whole, stop: (error) => stop(error) };
}
