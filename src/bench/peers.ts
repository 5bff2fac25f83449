/** The peers of a benchmark. A library more is an entry of PEERS and its script in bench/peers. */
import type { DeviceDescription, DeviceKind } from '../device.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { isQuantized } from '../embedding/row-format.ts';
import { sharesTables } from '../embedding/shared-tables.ts';
import { AbortError } from '../errors.ts';
import { EmbeddingPeer, type PeerKind, type PeerWorkload } from './embedding-peer.ts';

export const PEERS: readonly PeerKind[] = [
  {
    name: 'PyTorch',
    operator: 'embedding_bag',
    devices: ['cpu', 'cuda'],
    script: 'pytorch_embedding_bag.py',
    allTablesPerLaunch: false,
    refuse: ({ rowFormat }) =>
      isQuantized(rowFormat) ? 'its embedding_bag has no quantised rows' : undefined,
  },
  {
    name: 'FBGEMM',
    operator: 'IntNBitTableBatchedEmbeddingBagsCodegen',
    devices: ['cuda'],
    script: 'fbgemm_table_batched.py',
    allTablesPerLaunch: true,
    refuse: ({ rowFormat, mode }) => {
      if (rowFormat === 'bfloat16') return 'rows of bfloat16 are not offered by FBGEMM';
      return mode === 'max' ? 'pooling by max is not offered by FBGEMM' : undefined;
    },
    setup: ({ indexType }) => ({ indexType }),
  },
];

export function peersOn(device: DeviceKind): PeerKind[] {
  return PEERS.filter(({ devices }) => devices.includes(device));
}

/** Peers that run; why others do not, or no longer, goes into `notes`, once each. */
export class Peers implements AsyncDisposable {
  #running: readonly EmbeddingPeer[] = [];
  readonly #notes: string[];
  readonly #signal: AbortSignal | undefined;

  private constructor(notes: string[], signal: AbortSignal | undefined) {
    this.#notes = notes;
    this.#signal = signal;
  }

  /** @throws AbortError once `signal` is aborted, which ends them all; so does all that waits for them. */
  static async start(
    kinds: readonly PeerKind[],
    device: DeviceDescription,
    workload: Omit<PeerWorkload, 'threads'>,
    notes: string[],
    signal?: AbortSignal,
  ): Promise<Peers> {
    const peers = new Peers(notes, signal);
    // The threads of a device beside the host are not the host's.
    const threads = device.capabilities.runsBesideHost ? 1 : device.threads;
    try {
      for (const kind of kinds) await peers.#add(kind, device.kind, { ...workload, threads });
      return peers;
    } catch (error) {
      await peers[Symbol.asyncDispose]();
      throw error;
    }
  }

  get running(): readonly EmbeddingPeer[] {
    return this.#running;
  }

  /** One after the other; one that fails runs no further. `pattern`: for the note. */
  async each(pattern: string, use: (peer: EmbeddingPeer) => Promise<void>): Promise<void> {
    for (const peer of this.#running) {
      try {
        await use(peer);
      } catch (error) {
        if (error instanceof AbortError) throw error;
        this.#running = this.#running.filter((other) => other !== peer);
        this.#notes.push(
          `${peer.implementation} failed on ${pattern} and was not measured from there on: ${(error as Error).message}`,
        );
        await peer[Symbol.asyncDispose]();
      }
    }
  }

  async #add(kind: PeerKind, device: DeviceKind, workload: PeerWorkload): Promise<void> {
    const reason = refusal(kind, workload);
    if (reason !== undefined) {
      this.#notes.push(`${kind.name} was not measured: ${reason}`);
      return;
    }
    const peer = await EmbeddingPeer.start(kind, device, this.#signal);
    if (typeof peer === 'string') {
      this.#notes.push(peer);
      return;
    }
    try {
      await peer.setUp(workload);
    } catch (error) {
      await peer[Symbol.asyncDispose]();
      if (error instanceof AbortError) throw error;
      this.#notes.push(`${peer.implementation} was not measured: ${(error as Error).message}`);
      return;
    }
    const { implementation, indexType = workload.indexType } = peer;
    if (indexType !== workload.indexType) {
      this.#notes.push(`${implementation} takes ${indexType} indices: it looked the same rows up by those`);
    }
    this.#running = [...this.#running, peer];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.#running) await peer[Symbol.asyncDispose]();
  }
}

/** What the peer cannot be; undefined: it pools the same. */
function refusal({ refuse }: PeerKind, { tables }: PeerWorkload): string | undefined {
  return refuseCollection(tables) ?? tables.map(refuse).find((reason) => reason !== undefined);
}

/** What no peer pools; undefined: each table by itself decides. */
export function refuseCollection(tables: readonly EmbeddingTable[]): string | undefined {
  const odd = tables.some(
    ({ mode, rowWeights, paddingIdx }) =>
      mode !== tables[0]?.mode || rowWeights !== undefined || paddingIdx !== undefined,
  );
  if (odd) return 'the tables differ in pooling, or have learned weights or padding';
  return sharesTables(tables) ? 'features share tables, which it would have once a feature' : undefined;
}
