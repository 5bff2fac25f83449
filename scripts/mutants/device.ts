/** What runs on devices: bindings, what the GPU is asked for and given back, the CPU's backend, both kinds' programs. */
import { type Mutant, mutantsOf } from './mutant.ts';

const PLACEMENT = [
  'test/backend/cpu/placement.test.ts',
  'test/backend/cpu/lifetime.test.ts',
  'test/backend/cpu/given-back.test.ts',
  'test/backend/cpu/cpu-backend.test.ts',
];
const RESOURCES = ['test/cuda/resources.test.ts', 'test/cuda/wait.test.ts', 'test/cuda/given-back.test.ts'];

export const DEVICE: readonly Mutant[] = [
  ...mutantsOf(
    'src/cuda/block-pool.ts',
    [
      ['while (this.#idleBytes > this.#idleLimit) {', 'while (false) {'],
      ['if (block.bytes > this.#idleLimit) {', 'if (false) {'],
      ['this.#idleBytes -= block.bytes;', ''],
      ['this.#idleBytes += block.bytes;', ''],
      ['this.#idleBytes -= oldest.bytes;', 'this.#idleBytes = 0;'],
      ['block.bytes <= 2 * size', 'true'],
      ['this.#idle.shift() as B', 'this.#idle.pop() as B'],
      ['for (const block of this.#idle.splice(0)) block[Symbol.dispose]();', 'this.#idle.splice(0);'],
      ['if (this.#idleBytes === 0) throw error;', 'throw error;'],
      ['      oldest[Symbol.dispose]();\n', ''],
    ],
    ['test/cuda/block-pool.test.ts'],
  ),
  ...mutantsOf(
    'src/cuda/resource.ts',
    [
      ['if (this.#holds === 0) this.#giveBack();', 'this.#giveBack();'],
      ['if (this.#holds === 0 && this.#disposed) this.#giveBack();', ''],
      ['      this.device.forget(this);\n', ''],
      ['    if (this.#disposed)\n      throw', '    if (false)\n      throw'],
    ],
    RESOURCES,
  ),
  ...mutantsOf(
    'src/cuda/device.ts',
    [
      ['for (const resource of [...this.#resources].reverse()) resource[Symbol.dispose]();', ''],
      ['ignoringLostContext(() => this.driver.releasePrimaryContext(this.#device));', ''],
      ['if (this.#disposed) this.#releaseWhenEmpty();', ''],
      ['if (!(error instanceof CudaError && error.contextLost)) throw error;', 'throw error;'],
      ['Math.min(bytes, this.properties.maxPersistingL2Bytes)', 'bytes'],
      ['      this.enter().stopProfiler();\n', ''],
    ],
    RESOURCES,
  ),
  ...mutantsOf(
    'src/cuda/stream.ts',
    [
      ['for (const event of this.#idleEvents.splice(0)) event[Symbol.dispose]();', ''],
      ['else event[Symbol.dispose]();', ''],
      ['      abandonCapture(driver, this.handle);\n', ''],
      ['if (graph !== 0n) driver.destroyGraph(graph);', ''],
    ],
    RESOURCES,
  ),
  ...mutantsOf(
    'src/cuda/graph.ts',
    [
      ['  driver.destroyGraph(this.#template);\n'.trim(), ''],
      ['    driver.destroyGraph(template);\n', ''],
    ],
    RESOURCES,
  ),
  ...mutantsOf(
    'src/cuda/memory.ts',
    [
      [
        'if (end > this.bytes) throw new RangeError(`bytes [${offset}, ${end}) are not in ${this.bytes} bytes`);\n    if (bytes > INLINE_BYTES',
        'if (bytes > INLINE_BYTES',
      ],
      ['|| offset % array.BYTES_PER_ELEMENT !== 0', ''],
      ["if (bytes === 0 && unreadable(array) !== undefined) throw arraysChanged('was given away');", ''],
      ['driver.freePinned(handle);', ''],
      ['driver.unregisterHost(handle);', ''],
      ['offset < 0 || length < 0 || offset + length > this.bytes', 'offset < 0 || length < 0'],
    ],
    [
      ...RESOURCES,
      'test/backend/cuda/memory/host-memory.test.ts',
      'test/backend/cuda/program/program.test.ts',
    ],
  ),
  ...mutantsOf(
    'src/cuda/matrix-products.ts',
    [
      ['      workspace[Symbol.dispose]();\n', ''],
      ['for (const descriptors of this.#described.splice(0)) this.#library.release(descriptors);', ''],
      ['    this.#workspace[Symbol.dispose]();\n', ''],
      ['this.#library.destroy(handle);', ''],
    ],
    ['test/cuda/matrix-products.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/dense/linear-inputs.ts',
    [
      ['      if (inputRounded !== undefined) return;\n', ''],
      [
        'if (!this.#memory.reserve(rows * FLOAT_BYTES)) return;',
        'this.#memory.reserve(rows * FLOAT_BYTES);\n    return;',
      ],
    ],
    ['test/backend/cuda/dense/rounded-copies.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/dense/eight-bit-copies.ts',
    [
      ['!facts.writes(operation) || ', ''],
      ['known.scale === scale && ', ''],
      [' && part.stride === stride', ''],
      ['part.rows === rows && ', ''],
      [' && formatOf(part) === formatOf(matrix)', ''],
      ['matrix.cols % UNIT_BYTES === 0 && ', ''],
      ['column % UNIT_BYTES === 0 && ', ''],
      ['if (matrix.transient !== true) return false;', ''],
      ['if (place <= first) return true;', ''],
      ['[...others, ...termsOf(operation)].every', 'others.every'],
      ['if (isOwn) own += bytes;', 'if (isOwn) own += 0;'],
      ['until >= first', 'until > first'],
      ['if (start + bytes <= other.start) break;', 'break;'],
      ['start = Math.max(start, other.end);', ''],
      ['Math.max(...readers)', 'Math.min(...readers)'],
    ],
    ['test/backend/cuda/dense/eight-bit-copies.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/embedding/fused-stage.ts',
    [
      ['if (rounded === undefined) return [pool, pooled];', 'return [pool, pooled];'],
      ['floatBits(1 / Math.fround(rounded.scale))', 'floatBits(rounded.scale)'],
    ],
    ['test/backend/cuda/program/pooled-copies.test.ts'],
  ),
  ...mutantsOf(
    'kernels/cuda/fused_walk.cuh',
    [
      ['K::per_user ? params.user_rounded : params.rounded', 'params.rounded'],
      ['__fmul_rn(Output::widen(Output::narrow(results[i])), inverse)', '__fmul_rn(results[i], inverse)'],
      ['if (reinterpret_cast<uint64>(row) % 4 == 0) {', '{'],
    ],
    ['test/emulation/fused-rounds.rest.test.ts', 'test/backend/cuda/program/pooled-copies.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/dense/linear-launches.ts',
    [
      [" || (choice.kind === 'product' && choice.rounds);", ';'],
      ["layer.scales?.areOne === true ? 'scalars' : 'vectors'", "'scalars'"],
    ],
    ['test/backend/cuda/dense/eight-bit-outputs.test.ts', 'test/backend/cuda/dense/scaled-layers.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/dense/linear-chooser.ts',
    [
      ['rounded?.alone === true && ', ''],
      ['const splits = rounds ? roundingSplitsOf(operation) : tailSplits', 'const splits = tailSplits'],
    ],
    ['test/backend/cuda/dense/eight-bit-outputs.test.ts', 'test/backend/cuda/dense/scaled-layers.test.ts'],
  ),
  ...mutantsOf(
    'src/ffi/cublaslt.ts',
    [["if (type === 'float8_e4m3') this.#setByte(descriptors.matmul, LT_MATMUL_ATTRIBUTE.fastSums, 1);", '']],
    ['test/backend/cuda/dense/scaled-layers.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/rows/resident.ts',
    [
      ['      for (const memory of allocations) memory[Symbol.dispose]();\n', ''],
      ['    for (const memory of this.#allocations) memory[Symbol.dispose]();\n', ''],
      ['if (needed <= freeBytes) return;', 'return;'],
      ['using upload = new StreamedUpload', 'const upload = new StreamedUpload'],
      ['learned === undefined || placed.has(learned)', 'learned === undefined'],
    ],
    ['test/backend/cuda/rows/tables.test.ts', 'test/backend/cuda/rows/given-back.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/rows/move-rows.ts',
    [
      ['        pools.device.giveBack(memory);\n    throw error;'.trim(), 'throw error;'],
      ['[Symbol.dispose]: () => pools.device.giveBack(memory)', '[Symbol.dispose]: () => {}'],
      ['      pools.pinned.giveBack(block);\n', ''],
      ['      await passed.wait();\n', ''],
      ['    tools.pools.device.giveBack(memory);\n', ''],
      ['stream.fillBytes(moved.values, 0, into.length);', ''],
    ],
    ['test/backend/cuda/rows/given-back.test.ts', 'test/conformance/cuda.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/rows/upload.ts',
    [
      ['      await passed.wait();\n', ''],
      ['memory[Symbol.dispose]();\n      passed', 'passed'],
      ['    this.#scaled?.[Symbol.dispose]();\n', ''],
    ],
    ['test/backend/cuda/rows/given-back.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/program/staging.ts',
    [
      ['this.#pool.giveBack(this.#block);', ''],
      ['Math.ceil(bytes / WORD_BYTES) * WORD_BYTES', 'Math.floor(bytes / WORD_BYTES) * WORD_BYTES'],
      ['program.length * WORD_BYTES', '0'],
    ],
    [
      'test/backend/cuda/given-back.test.ts',
      'test/backend/cuda/program/program.test.ts',
      'test/conformance/cuda.test.ts',
    ],
  ),
  ...mutantsOf('src/backend/cuda/program/graph-choice.ts', [
    ['!reachesPeers && ', ''],
    ['.every((stage) => stage.launches() !== undefined)', '.length >= 0'],
    ['if (bytesOf(lookups) > MOST_LINE_BYTES) return streams;', ''],
  ]),
  ...mutantsOf(
    'src/backend/cuda/dense/rounding-trial.ts',
    [
      ['value(left) !== value(sum) - value(less)', 'true'],
      ['value(left) !== value(sum) - value(less)', 'false'],
    ],
    ['test/backend/cuda/dense/dense-kernels.rest.test.ts'],
  ),
  ...mutantsOf('src/backend/cuda/memory/direct-copies.ts', [
    ['last.home === copy.home && ', ''],
    ['copy.from - last.from === copy.to - last.to', 'true'],
  ]),
  ...mutantsOf('src/backend/cuda/memory/host-memory.ts', [
    ['home?.disposed === true ? undefined : home', 'home'],
    ['    this.#registered[Symbol.dispose]();\n', ''],
  ]),
  ...mutantsOf(
    'src/backend/in-flight.ts',
    [
      ['if (this.#running > 0) await new', 'if (this.#running < 0) await new'],
      ['if (this.#running === 0) this.#idle?.();', 'this.#idle?.();'],
    ],
    ['test/backend/in-flight.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/hold-all.ts',
    [
      ['    held[Symbol.dispose]();\n', ''],
      ['held.use(thing.hold())', 'thing.hold()'],
    ],
    ['test/backend/hold-all.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/scope.ts',
    [
      ['this.#own.pop()', 'this.#own.shift()'],
      ['      this[Symbol.dispose]();\n', ''],
      [
        '    } finally {\n      this[Symbol.dispose]();\n    }\n',
        '    } catch {}\n    this[Symbol.dispose]();\n',
      ],
    ],
    ['test/backend/scope.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/row-access.ts',
    [
      ['(next.alone && this.#readers > 0)', 'false'],
      ['if (!this.#updating && this.#waiting.length === 0) {', 'if (!this.#updating) {'],
      ['    for (const access of this.#rows) access.leave();\n', ''],
      ['        this.#updating = false;\n', ''],
      ['    for (const access of this.#rows.slice(next)) await access.enter();\n', ''],
      ['this.#rows.slice(next)', 'this.#rows'],
      ['a.order - b.order', 'b.order - a.order'],
      ['      await before;\n', ''],
    ],
    ['test/backend/row-access.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/slots.ts',
    [
      ['if (value.batchSize > rows)', 'if (value.batchSize > rows + 1)'],
      ['length <= rows * cols &&', 'length <= (rows + 1) * cols &&'],
      ['length % cols === 0', 'true'],
      ['    if (this.#disposed) this.giveBack();\n', ''],
      ['    if (!this.#running) this.giveBack();\n', '    this.giveBack();\n'],
      ['    this.#running = false;\n', ''],
    ],
    ['test/backend/slots.test.ts'],
  ),
  ...mutantsOf(
    'src/ffi/native-library.ts',
    [
      ['  underWay.add(held);\n', ''],
      ['    underWay.delete(held);\n', ''],
      ['const MOST_BACKGROUND_CALLS = 48;', 'const MOST_BACKGROUND_CALLS = 480;'],
      ['if (next === undefined) backgroundCalls -= 1;', 'if (next === undefined) return;'],
      ['else next();', ''],
      [
        "if (status === RUN_NO_MEMORY) throw new DeviceError('OUT_OF_MEMORY', 'the CPU kernels ran out of memory');",
        '',
      ],
    ],
    ['test/ffi/native-library.test.ts', 'test/ffi/host-memory.test.ts'],
  ),
  ...mutantsOf(
    'src/ffi/host-memory.ts',
    [
      ['    library().free(this.#address);\n', ''],
      ['    library().unmapFile(this.mapping);\n', ''],
      ['if (status < 0)\n', 'if (status < -1)\n'],
      ['bytes <= INLINE_COPY_BYTES', 'bytes < INLINE_COPY_BYTES'],
      ["if (!this.#live) throw new DeviceError('DISPOSED', 'memory was used after it was disposed');", ''],
      ['[copiers, words, copies.length], copies)', '[copiers, words, copies.length])'],
    ],
    ['test/kernels/cpu/memory.test.ts', 'test/ffi/host-memory.test.ts'],
  ),
  ...mutantsOf(
    'src/ffi/move-rows.ts',
    [['[words], [numbers, values]', '[words]']],
    ['test/ffi/native-library.test.ts'],
  ),
  ...mutantsOf(
    'src/ffi/cpu-operators.ts',
    [
      ['if (bytes < 0)\n    throw', 'if (bytes < -1)\n    throw'],
      ["if (status === RUN_FILE_CHANGED) return 'file changed';", ''],
    ],
    [
      'test/backend/cpu/lifetime.test.ts',
      'test/backend/cpu/changed-file.test.ts',
      'test/backend/cpu/given-back.test.ts',
    ],
  ),
  ...mutantsOf(
    'src/backend/cpu/placement.ts',
    [
      ['for (const resource of [...this.#allocations, ...this.files]) resource[Symbol.dispose]();', ''],
      ['...this.#allocations, ...this.files]) resource', '...this.#allocations]) resource'],
      ['    for (const resource of resources()) resource[Symbol.dispose]();\n', ''],
      ['[...allocations, ...files.values()]', '[...allocations]'],
      [
        'if (weight.byteOffset + bytes > mapped.bytes) {',
        'if (weight.byteOffset + bytes > mapped.bytes + 1) {',
      ],
      ['files.get(file) ?? new MappedFile(file)', 'new MappedFile(file)'],
      ['if (this.#owner) this.#memory', 'this.#memory'],
      ['rowWeights === undefined || learned.has(rowWeights)', 'rowWeights === undefined'],
      ['BigInt(table.paddingIdx ?? -1)', 'BigInt(table.paddingIdx || -1)'],
    ],
    PLACEMENT,
  ),
  ...mutantsOf(
    'src/backend/cpu/cpu-backend.ts',
    [
      ['threads > 1024', 'threads > 1025'],
      ["if (end === 'file changed') checkFiles(operations);", ''],
      [
        'using memory = new NativeMemory(CEILING_BYTES, true);',
        'const memory = new NativeMemory(CEILING_BYTES, true);',
      ],
      ['badIndices += Number(indices);', 'badIndices = Number(indices);'],
      ['bias?.slice()', 'bias'],
    ],
    [...PLACEMENT, 'test/backend/cpu/changed-file.test.ts', 'test/conformance/cpu.test.ts'],
  ),
];
