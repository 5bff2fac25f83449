/** Models and their programs, what callers get of a backend, plans and workloads, and the CUDA kernels that tests emulate. */
import { type Mutant, mutantsOf } from './mutant.ts';

const GIVEN_BACK = 'test/model/given-back.test.ts';
const MODELS = [GIVEN_BACK, 'test/model/many-at-once.test.ts', 'test/model/head.test.ts'];
const GUARDED = ['test/backend/guarded/handles.test.ts'];
const UTILITIES = ['test/emulation/utilities.test.ts'];

export const MODELS_AND_PROGRAMS: readonly Mutant[] = [
  ...mutantsOf(
    'src/model/batch-runner.ts',
    [
      ['      for (const part of [...owned, bags]) part[Symbol.dispose]();\n', ''],
      ['      owned.push(block);\n', ''],
      ['      owned.unshift(executable);\n', ''],
      [
        'call.use(this.#backend.placeBags(this.#placed.tables, request));',
        'this.#backend.placeBags(this.#placed.tables, request);',
      ],
      ['call.use(this.#programs.borrow(bags));', 'this.#programs.borrow(bags);'],
      ['if (owner !== this)\n', 'if (owner === undefined)\n'],
      ['bytes: this.#programs.bytesFor(batchSize), what, signal', 'bytes: 0, what, signal'],
      ['    call.use(placed.hold());\n', ''],
      ['checking: this.#checking', "checking: 'none'"],
      ['    this.#programs[Symbol.dispose]();\n', ''],
    ],
    MODELS,
  ),
  ...mutantsOf(
    'src/model/dlrm.ts',
    [
      ['    this.#batches[Symbol.dispose]();\n', ''],
      ['    this.#placed.head[Symbol.dispose]();\n', ''],
      ['    this.#placed.tables[Symbol.dispose]();\n', ''],
      ['if (this.#closesBackend) this.#backend[Symbol.dispose]();', ''],
      ["      throwIfAborted(signal, 'predict');\n", ''],
      ['      call.use(this.#inFlight.enter());\n', ''],
      ['{ bytes: bytesIn(values), what:', '{ bytes: 0, what:'],
      [
        'keep(await PlacedHead.place({ backend: device, precision }, head, signal))',
        'await PlacedHead.place({ backend: device, precision }, head, signal)',
        'nothing that can fail follows the placing of the head',
      ],
    ],
    MODELS,
  ),
  ...mutantsOf(
    'src/model/dlrm.ts',
    [
      ['    if (this.#isHandedOver) return;\n', ''],
      ['        this.#isHandedOver = true;\n', ''],
      ['        if (!isBegun) head[Symbol.dispose]();\n', ''],
      ['    checkOverwrites(this.#architecture, own);\n', ''],
      ['          await model.close();\n          throw error;\n', '          throw error;\n'],
    ],
    ['test/model/overwrite.test.ts'],
  ),
  ...mutantsOf(
    'src/model/overwrite.ts',
    [
      ['first += rows.length;', 'first += 0;'],
      ['paddingIdx === undefined ?', 'paddingIdx !== null ?'],
      ["same('the model', 'output',", "void ('the model', 'output',"],
    ],
    ['test/model/overwrite.test.ts'],
  ),
  ...mutantsOf(
    'src/calibrate/scales.ts',
    [
      ['if (!Number.isFinite(size)) {', 'if (size === undefined) {'],
      ['if (reach <= MOST_INPUT && sum < MOST_SUM) return;', 'if (sum < MOST_SUM) return;'],
      ['scaleFor(HEADROOM * at(reach, i))', 'scaleFor(at(reach, i))'],
      ['    if (!fitsEightBits(layer)) continue;\n', ''],
      ['  refuseScaled(layers);\n', ''],
    ],
    ['test/calibrate/calibrate.test.ts'],
  ),
  ...mutantsOf(
    'src/bench/eight-bit-model.ts',
    [
      ["architecture.naming === 'synthetic' && ", ''],
      [" && precision === 'float8_e4m3'", ''],
      ['    bottom: bottom.map(linear),\n', ''],
      ['    top: top.map(linear),\n', ''],
      [" && error.code === 'VALUE_OUT_OF_RANGE'", ''],
      ['{ w: w.weight, wScales: w.scales }', '{}'],
      ['inputScale === undefined ? {} :', 'true ? {} :'],
    ],
    ['test/bench/eight-bit-model.test.ts'],
  ),
  ...mutantsOf(
    'src/calibrate/choose-layers.ts',
    [
      ['    if (own > mostLoss) continue;\n', ''],
      ['at(alone, i) / at(candidates, i).multiplyAdds', 'at(alone, i)'],
      ['if (ofAll <= mostLoss) return', 'if (ofAll < mostLoss) return'],
    ],
    ['test/calibrate/choose-layers.test.ts'],
  ),
  ...mutantsOf(
    'src/dense/layer-scales.ts',
    [
      ['(bits & 0x7f) === 0x7f', 'bits === 0x7f'],
      ['!(Number.isFinite(scale) && scale >= LEAST_SCALE)', '!Number.isFinite(scale)'],
      ["(weight.dtype === 'float8_e4m3') !== (scales !== undefined)", 'scales === undefined && false'],
    ],
    ['test/calibrate/calibrate.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/keep-placed.ts',
    [
      ['    for (const part of kept) part[Symbol.dispose]();\n', ''],
      ['      kept.push(part);\n', ''],
    ],
    MODELS,
  ),
  ...mutantsOf(
    'src/dense/linear.ts',
    [['keep(await placeLayer(on, layer)), activation', 'await placeLayer(on, layer), activation']],
    MODELS,
  ),
  ...mutantsOf(
    'src/dense/cross.ts',
    [['keep(await placeLayer(on, layer))', 'await placeLayer(on, layer)']],
    MODELS,
  ),
  ...mutantsOf(
    'src/model/placed-head.ts',
    [
      [
        'keep(await kindOf(block).place(on, block, vectors))',
        'await kindOf(block).place(on, block, vectors)',
      ],
      ['takesFloat32 || formatOf(place) === this.#format ? place', 'takesFloat32 ? place'],
      ["givesFloat32 && this.#exchanged.has(value) ? 'float32' : this.#format", 'this.#format'],
      ['if (writesPadding && value === joined.values.at(-1))', 'if (writesPadding)'],
      ["padding === 0 || formatOf(matrix) === 'float32'", 'padding === 0'],
    ],
    MODELS,
  ),
  ...mutantsOf('src/backend/formats.ts', [
    ["from === 'float32' ? known : ['float32', from]", 'known'],
    ['  check(cross.x, [formatOf(output)], `${at}.cross.x`);\n', ''],
    ['  check(input, [own], `${at}.input`);\n', ''],
  ]),
  ...mutantsOf(
    'src/model/placed-request.ts',
    [
      ['of [...owned, bags])', 'of [...owned])'],
      ['of [...owned, bags])', 'of [bags])'],
      [
        '    this.#disposed = true;\n    if (this.#running === 0) this.#free();\n',
        '    this.#disposed = true;\n    this.#free();\n',
      ],
      ['if (this.#disposed && this.#running === 0) this.#free();', ''],
      [
        "if (this.#disposed) throw new DeviceError('DISPOSED', 'a placed",
        "if (false) throw new DeviceError('DISPOSED', 'a placed",
      ],
    ],
    ['test/model/placed-request.test.ts'],
  ),
  ...mutantsOf(
    'src/model/collection.ts',
    [
      ['    for (const programs of this.#programs.values()) programs[Symbol.dispose]();\n', ''],
      ['    this.#placed[Symbol.dispose]();\n', ''],
      ['using bags = this.#backend.placeBags', 'const bags = this.#backend.placeBags'],
      ['checking: this.#checking', "checking: 'none'"],
      ["    throwIfAborted(signal, 'forward');\n", ''],
      ['if (options.placement !== undefined) checkPlacement(options.placement, own);', ''],
    ],
    [GIVEN_BACK, 'test/model/collection.test.ts', 'test/model/many-at-once.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/apart.ts',
    [
      ['    this.#running -= 1;\n', ''],
      ['this.#waiting.length === 0 && this.#fits(kind)', 'true'],
      ['      this.#begin(next.kind);\n', ''],
      ['this.#running === 0 || this.#kind === kind', 'this.#running === 0'],
    ],
    ['test/backend/apart.test.ts'],
  ),
  ...mutantsOf(
    'src/embedding/batch-parts.ts',
    [
      ['if (starts[0] !== 0) return undefined;', ''],
      ['at(starts, count) > indices.length ? undefined : starts', 'starts'],
      ['isLast ? indices.length : at(starts, end)', 'at(starts, end)'],
      ['at(part.firstLookups, table) + position', 'position'],
      ['    if (found === undefined) return undefined;\n', ''],
    ],
    ['test/model/batch-parts.test.ts'],
  ),
  ...mutantsOf(
    'src/model/run-parts.ts',
    [
      ['        throwIfAborted(signal, what);\n', ''],
      ['  if (failed.length > 0) throw failed[0];\n', ''],
      ['  if (first !== undefined) throw first;\n', ''],
    ],
    ['test/model/batch-parts.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/program-lane.ts',
    [
      ['    if (this.#isDisposed) this.#giveMemoryBack();', ''],
      ['    if (!this.#isLent) this.#giveMemoryBack();', '    this.#giveMemoryBack();'],
      ['    this.#isLent = true;\n', ''],
      ['    this.#block[Symbol.dispose]();', ''],
      ['for (const { executable } of this.#programs.splice(0)) executable[Symbol.dispose]();', ''],
    ],
    ['test/backend/program-lane.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/batch-programs.ts',
    [
      ['this.#idle.length > MOST_IDLE || ', ''],
      ['(elements * FLOAT_BYTES > most && this.#idle.length > 1)', 'false'],
      ['elements * FLOAT_BYTES > most', 'elements > most'],
      [' && this.#idle.length > 1)', ')'],
      ['      elements -= oldest.block.length;\n', ''],
      ['      discard(oldest);\n', ''],
      ['  executable[Symbol.dispose]();\n', ''],
      ['  executable[Symbol.dispose]();\n  block[Symbol.dispose]();', '  executable[Symbol.dispose]();'],
      ['      block[Symbol.dispose]();\n      throw error;', '      throw error;'],
      ['(fitting.length < MOST_KINDS ? undefined : fitting[0])', 'undefined'],
      ['entry.capacity === capacity', 'entry.capacity >= capacity'],
      ['      known.kind = kind;\n', ''],
      ["error.code !== 'OUT_OF_MEMORY' || this.#idle.length === 0", 'true'],
      ['    this.#idle.push(entry);\n    this.#trim();', '    this.#trim();'],
      ['this.#idle.shift() as Entry', 'this.#idle.pop() as Entry'],
    ],
    ['test/backend/batch-programs.test.ts', GIVEN_BACK],
  ),
  ...mutantsOf('src/backend/workspace.ts', [
    ['Math.ceil(elements / MATRIX_ELEMENTS) * MATRIX_ELEMENTS', 'elements'],
    ['      block[Symbol.dispose]();\n', ''],
    ['if (this.#taken > this.#buffer.length)', 'if (this.#taken > 2 * this.#buffer.length)'],
    ['Math.ceil(cols / rowElements) * rowElements', 'cols'],
    ['(start * FLOAT_BYTES) / elementBytes({ format })', 'start'],
  ]),
  ...mutantsOf('src/backend/admission.ts', [
    ['this.#bytes + bytes <= most', 'this.#bytes + bytes < most'],
    ['this.#programs < programs', 'this.#programs <= programs'],
    ['size >= this.limits.waiting', 'size > this.limits.waiting'],
    ['    this.#bytes -= bytes;\n', ''],
    ['    this.#programs -= 1;\n', ''],
    ['this.#waiting.size > 0 || ', ''],
    ['          this.#waiting.delete(own);\n', ''],
    ['          listening?.[Symbol.dispose]();\n', ''],
    ['if (!this.#fits(next.turn.bytes)) return;', 'if (!this.#fits(next.turn.bytes)) continue;'],
    ['this.#programs === 0 || ', ''],
  ]),
  ...mutantsOf(
    'src/backend/guarded/handles.ts',
    [
      ['if (this.#users === 0 && this.#disposed) this.#inner[Symbol.dispose]();', ''],
      ['    if (this.#users === 0) this.#inner[Symbol.dispose]();', '    this.#inner[Symbol.dispose]();'],
      ['    parent?.[Symbol.dispose]();\n', ''],
      ['const parent = this.#parent?.hold();', 'const parent = undefined;'],
      ['    void this.#parent?.inner;\n', ''],
      ['giver === undefined || giver.#what !== this.#what', 'giver === undefined'],
      ['    void known?.held.inner;\n', ''],
      ['Object.freeze({ ...handle,', '({ ...handle,'],
    ],
    GUARDED,
  ),
  ...mutantsOf(
    'src/backend/guarded/program.ts',
    [
      ["  if (target.length !== own.length) throw arraysChanged('was given away');\n", ''],
      ['    program.deliver();\n', ''],
    ],
    ['test/conformance/cpu.test.ts', 'test/backend/cpu/changing-arrays.test.ts'],
  ),
  ...mutantsOf('src/plan/placement.ts', [
    ['placed.length !== tables.length', 'placed.length < tables.length'],
    ['    if (own !== name)\n', '    if (own === undefined)\n'],
  ]),
  ...mutantsOf('src/plan/occupancy.ts', [
    [
      'Math.floor(registersPerMultiprocessor / registersPerWarp / WARP_UNIT) * WARP_UNIT',
      'Math.floor(registersPerMultiprocessor / registersPerWarp)',
    ],
    ['Math.min(...Object.values(most))', 'Math.max(...Object.values(most))'],
    ['Math.ceil(threads / warpThreads)', 'Math.floor(threads / warpThreads)'],
    ['from <= capability', 'from < capability'],
  ]),
  ...mutantsOf('src/workload/bag-lengths.ts', [
    ['const MAX_LOOKUPS = 2 ** 31 - 1;', 'const MAX_LOOKUPS = 2 ** 31;'],
    ['if (low > high) parts.fail', 'if (low > high + 1) parts.fail'],
    ['random.integer(high - low + 1)', 'random.integer(high - low)'],
    ['parts.length !== 1 && parts.length !== tables', 'parts.length > tables'],
  ]),
  ...mutantsOf(
    'src/workload/index-values.ts',
    [
      ['halves[2 * i + 1] === 0 ? low : -1', 'low'],
      ['(high[2 * i + 1] as number) * 2 ** 32', '(low[2 * i + 1] as number) * 2 ** 32'],
      ['    this.#full += this.#last;\n', ''],
    ],
    ['test/workload/index-values.test.ts'],
  ),
  ...mutantsOf('src/workload/hotness.ts', [
    ['next < Math.min(k, counts.length)', 'next < k'],
    ['32 - Math.clz32(count - 1)', '32 - Math.clz32(count)'],
    ['lookups === 0 ? 0 : distinct / lookups', 'lookups / distinct'],
  ]),
  ...mutantsOf(
    'src/workload/batch-traffic.ts',
    [
      ['numbers.indexOf(number) === t ? distinctRows', 'true ? distinctRows'],
      ['distinctRowBytes: distinct * bytes,', 'distinctRowBytes: indices.length * bytes,'],
      ['batchSize * table.dim * Float32Array.BYTES_PER_ELEMENT', 'batchSize * table.dim'],
      ['rows.filter((row) => row >= 0)', 'rows.filter((row) => row > 0)'],
    ],
    ['test/workload/batch-traffic.test.ts', 'test/bench/workload.test.ts'],
  ),
  ...mutantsOf(
    'kernels/cuda/artifact_bag.cuh',
    [
      ['index >= 0 && index < params.row_count', 'index < params.row_count'],
      ['index >= 0 && index < params.row_count', 'index >= 0 && index <= params.row_count'],
      ['(V::repair ? row : index) == params.padding_index', 'index == params.padding_index'],
      ['position + V::distance <= end', 'position < end'],
      ['  for (; position < end; position++) add_lookup<V>(params, cell, position);', ''],
      ['if (position + V::distance < end) {', '{'],
      ['if (cell.feature == 0) ptx::store(params.offset_to_bag + position, cell.bag);', ''],
      [
        'if (cell.feature == 0) ptx::store(params.bag_size',
        'if (cell.feature == 1) ptx::store(params.bag_size',
      ],
      ['begin = begin < 0 ? 0 : begin > params.lookups ? params.lookups : begin;', ''],
      ['end = end < begin ? begin : end > params.lookups ? params.lookups : end;', ''],
      ['if (params.stop != nullptr && ptx::load(params.stop) != 0) return;', ''],
      ['if (cell.feature >= params.dim) continue;', ''],
    ],
    ['test/emulation/artifact-bag.test.ts'],
  ),
  ...mutantsOf(
    'src/backend/cuda/embedding/bag-notes.ts',
    [
      ['    if (this.#memory !== undefined) this.#pools.device.giveBack(this.#memory);\n', ''],
      ['this.#memory ??= this.#pools', 'this.#memory = this.#pools'],
    ],
    ['test/backend/cuda/embedding/artifact-plan.test.ts'],
  ),
  ...mutantsOf(
    'kernels/cuda/check_bags.cuh',
    [
      [
        'value < before ? OFFSETS_DECREASE : value > bags.lookups',
        'value <= before ? OFFSETS_DECREASE : value > bags.lookups',
      ],
      ['value > bags.lookups ? OFFSET_PAST_END', 'value >= bags.lookups ? OFFSET_PAST_END'],
      ['if (position == 0) return value != 0', 'if (position == 0) return value < 0'],
      ['static_cast<uint64>(index) - first < ', 'static_cast<uint64>(index) - first <= '],
      ['if (code == OFFSET_PAST_END) limit = bags.lookups;', ''],
      ['if (bad_indices++ == 0 && first == 0)', 'if (bad_indices++ == 0)'],
    ],
    UTILITIES,
  ),
  ...mutantsOf(
    'kernels/cuda/hot_rows.cuh',
    [
      [' || row == params.padding_index) continue;', ') continue;'],
      ['if (slot >= room) continue;', 'if (slot > room) continue;'],
      ['static_cast<uint32>(params.capacity - chosen)', 'static_cast<uint32>(params.capacity)'],
      ['if (bin > above) {', 'if (bin >= above) {'],
    ],
    UTILITIES,
  ),
  ...mutantsOf(
    'kernels/cuda/move_rows.cuh',
    [
      [
        'if (row >= static_cast<uint64>(params.row_count)) continue;',
        'if (row > static_cast<uint64>(params.row_count)) continue;',
      ],
    ],
    ['test/emulation/utilities.test.ts', 'test/conformance/cuda.test.ts', 'test/emulation/move-rows.test.ts'],
  ),
  ...mutantsOf(
    'kernels/cuda/spread_rows.cuh',
    [
      ['if (all % 16 == 0) copy_span', 'if (all % 8 == 0) copy_span'],
      ['else if (all % 2 == 0) copy_span', 'else if (true) copy_span'],
      [
        'ptx::load_read_only(&span->to) * params.element_bytes',
        'ptx::load_read_only(&span->from) * params.element_bytes',
      ],
    ],
    ['test/emulation/spread-rows.test.ts'],
  ),
];
