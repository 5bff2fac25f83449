/** Connections of a port of its own, for one door in this process. */
import { HandOver } from '../../src/serve/hand-over.ts';
import { listen } from '../../src/serve/listening-socket.ts';

export interface Accepted extends Disposable {
  readonly port: number;
}

/** `memory`: the door's. Errors fail the test. */
export async function accepting(
  memory: SharedArrayBuffer,
  door: { receive(descriptor: number): void },
  limit = 1000,
): Promise<Accepted> {
  const socket = await listen('127.0.0.1', 0);
  socket.accept({
    to: [new HandOver(memory, (descriptor) => door.receive(descriptor))],
    limit,
    onError: (error) => {
      throw error;
    },
  });
  return { port: socket.port, [Symbol.dispose]: () => socket.close() };
}
