/** Rows on their way to the device: out of arrays and files, through two pinned blocks, never read whole. */
import { bytesOf } from '../../../checks/array.ts';
import { DeviceMemory, PinnedMemory } from '../../../cuda/memory.ts';
import type { CudaKernel } from '../../../cuda/module.ts';
import { type EmbeddingTable, rowBytes } from '../../../embedding/bag.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { addressOf, copyAll, type HostPtr, readFileTo, viewMemory } from '../../../ffi/host-memory.ts';
import { isInFile, type StoredTensor, type TensorData } from '../../../tensor.ts';
import { launchStriding } from '../kernels/launcher.ts';
import { type PassedBlock, passedBlock } from '../memory/passed-block.ts';
import { deviceRowBytes } from './row-layout.ts';
import { SplitRowsParams } from './split-rows-params.ts';
import type { RowTools } from './tools.ts';

const WORD_BYTES = 4;

/** Where an upload goes. */
export interface UploadTarget {
  /** Bytes of a piece, at most. */
  readonly pieceBytes: number;
  /** Puts a piece of pinned memory where it belongs, `offset` bytes from the start of what is uploaded. */
  put(piece: HostPtr, offset: number, length: number): void;
}

/** Host memory and files to the device, while the next piece is read. */
export class StreamedUpload implements Disposable {
  readonly #tools: RowTools;
  readonly #pieceBytes: number;
  /** A piece of scaled rows as files have them; made when first needed. */
  #scaled: DeviceMemory | undefined;
  /** Made when first needed. */
  #blocks: PassedBlock[] = [];
  #next = 0;

  /** `pieceBytes`: a row of every table at least. */
  constructor(tools: RowTools, pieceBytes: number) {
    this.#tools = tools;
    this.#pieceBytes = pieceBytes;
  }

  /** Memory that takes the bytes as they are. */
  to(address: DevicePtr): UploadTarget {
    return {
      pieceBytes: this.#pieceBytes,
      put: (piece, offset, length) =>
        this.#tools.stream.copyToDevice((address + BigInt(offset)) as DevicePtr, piece, length),
    };
  }

  /** The memory of a table of scaled rows; `split`: the kernel that takes files' rows apart. */
  toScaled(table: EmbeddingTable, memory: DeviceMemory, split: CudaKernel): UploadTarget {
    const { device, stream } = this.#tools;
    const fileRowBytes = rowBytes(table);
    const stride = deviceRowBytes(table);
    const headers = table.rows * stride;
    this.#scaled ??= new DeviceMemory(device, this.#pieceBytes);
    const source = this.#scaled.address();
    return {
      pieceBytes: Math.floor(this.#pieceBytes / fileRowBytes) * fileRowBytes,
      put: (piece, offset, length) => {
        const [first, rows] = [offset / fileRowBytes, length / fileRowBytes];
        stream.copyToDevice(source, piece, length);
        const words = SplitRowsParams.encode({
          source,
          elements: memory.address(first * stride),
          headers: memory.address(headers + first * WORD_BYTES),
          rows,
          sourceStride: fileRowBytes / WORD_BYTES,
          stride: stride / WORD_BYTES,
        });
        launchStriding(stream, split, words, length / WORD_BYTES);
      },
    };
  }

  array(target: UploadTarget, array: TensorData): Promise<void> {
    return this.#pieces(target, bytesOf(array), async (piece, offset, length) => {
      const source = (addressOf(array) + BigInt(offset)) as HostPtr;
      await copyAll([{ target: piece, source, bytes: length }]);
    });
  }

  stored(target: UploadTarget, tensor: StoredTensor): Promise<void> {
    return this.#pieces(target, tensor.byteLength, (piece, offset, length) =>
      isInFile(tensor)
        ? readFileTo(piece, tensor.file, tensor.byteOffset + offset, length)
        : tensor.read(new Uint8Array(viewMemory(piece, length)), offset),
    );
  }

  async #pieces(
    { pieceBytes, put }: UploadTarget,
    bytes: number,
    read: (piece: HostPtr, offset: number, length: number) => Promise<void>,
  ): Promise<void> {
    const { device, stream } = this.#tools;
    for (let offset = 0; offset < bytes; offset += pieceBytes) {
      const length = Math.min(pieceBytes, bytes - offset);
      const which = this.#next++ % 2;
      this.#blocks[which] ??= passedBlock(device, () => new PinnedMemory(device, this.#pieceBytes));
      const { memory, passed } = this.#blocks[which];
      await passed.wait();
      await read(memory.address(), offset, length);
      put(memory.address(), offset, length);
      passed.record(stream);
    }
  }

  /** The driver gives memory back only when the copies out of it are done. */
  [Symbol.dispose](): void {
    this.#scaled?.[Symbol.dispose]();
    for (const { memory, passed } of this.#blocks) {
      memory[Symbol.dispose]();
      passed[Symbol.dispose]();
    }
  }
}
