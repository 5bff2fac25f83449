/** gRPC's frames around messages: whether it is compressed, 1 byte, and its length, 4 bytes, big-endian. */
import { encode } from './codec/encode.ts';
import type { MessageType } from './codec/fields.ts';

export const FRAME_BYTES = 5;

/** Writes the frame of a message that is not compressed into the bytes that were left before it. */
export function framed(bytes: Buffer): Buffer {
  bytes[0] = 0;
  bytes.writeUInt32BE(bytes.length - FRAME_BYTES, 1);
  return bytes;
}

export function framedMessage(type: MessageType, value: object): Buffer {
  return framed(encode(type, value, FRAME_BYTES));
}
