/** Connections on which TLS is to be spoken and hands have not been shaken yet. */
import type { Socket } from 'node:net';

export class Handshakes {
  /** By where they come from: what a handshake gives is another socket. */
  readonly #open = new Map<string, Socket>();

  /** A connection has come. */
  begun(socket: Socket): void {
    const peer = peerOf(socket);
    this.#open.set(peer, socket);
    socket.once('close', () => {
      if (this.#open.get(peer) === socket) this.#open.delete(peer);
    });
  }

  /** Hands have been shaken. */
  done(socket: Pick<Socket, 'remoteAddress' | 'remotePort'>): void {
    this.#open.delete(peerOf(socket));
  }

  /** Ends those that are open. */
  end(): void {
    for (const socket of this.#open.values()) socket.destroy();
  }
}

function peerOf({ remoteAddress, remotePort }: Pick<Socket, 'remoteAddress' | 'remotePort'>): string {
  return `${remoteAddress} ${remotePort}`;
}
