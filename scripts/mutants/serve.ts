/** The server: requests' records, checked and merged. */
import { type Mutant, mutantsOf } from './mutant.ts';

const CHECK = ['test/serve/records/check-record.test.ts', 'test/serve/records/hostile-records.test.ts'];
const MERGE = ['test/serve/records/merge.test.ts'];

export const SERVE: readonly Mutant[] = [
  ...mutantsOf(
    'kernels/cpu/check_request.c',
    [
      ['at >= check->header_bytes && ', ''],
      ['bytes <= check->bytes - at)', 'bytes <= check->bytes)'],
      ['if (any >> 31 == 0 && sum <= (uint64_t)most)', 'if (sum <= (uint64_t)most)'],
      ['value < 0 || value > most', 'value < 0'],
      ['& ~(int64_t)HR_REQUEST_HEADS_PIECE);', ');'],
      ['    if (bags.form != 0) return fail_word(check, flags_word);\n', ''],
      ['    if (!check_lengths_place(check, t, &bags)) return BAD;\n', ''],
      ['if (lookups > piece.lookups - done) return', 'if (0) return'],
      ['next > check->model->table_count || ', ''],
      [' || steps == check->model->table_count) return', ') return'],
      ['return done == piece.lookups ? GOOD', 'return 1 ? GOOD'],
      ['if (i == 0 && value != 0) return fail', 'if (0) return fail'],
      [
        'if (value < before) return fail(check, HR_REQUEST_OFFSETS',
        'if (0) return fail(check, HR_REQUEST_OFFSETS',
      ],
      ['if (value > bags->lookups) return', 'if (0) return'],
      ['if (sum == bags->lookups) return sum;', 'if (sum >= 0) return sum;'],
      ['if (rest == 0) return bags->lookups;', 'return bags->lookups;'],
      ['if (!check_place(check, word, count * bags->bounds_bytes) || ', 'if ('],
      ['any |= above | (limit - 1 - above);', 'any |= limit - 1 - above;'],
      ['(uint64_t)(rows - first)))', '(uint64_t)(rows - first + 1)))'],
      ['>= HR_REQUEST_HEADS_PIECE || !is_form(bags.form))', '>= HR_REQUEST_HEADS_PIECE)'],
      ['if (bags.per_user && users == 0) return', 'if (0) return'],
      ['if (bags.weights && !check->model->tables[t].takes_weights)', 'if (0)'],
      ['  if (samples > INT32_MAX) return fail_word(check, HR_REQUEST_SAMPLES);\n', ''],
      ['own_features < 0 || ', ''],
      [' || (users == 0 && user_features > 0)', ''],
      ['  if (!check_place(check, HR_REQUEST_DENSE_AT, samples * own_features * 4)) return BAD;\n', ''],
      ['  if (!check_place(check, HR_REQUEST_USER_DENSE_AT, users * user_features * 4)) return BAD;\n', ''],
      ['  if (!check_place(check, HR_REQUEST_STARTS_AT, (users + 1) * 4)) return BAD;\n', ''],
      ['return before == samples ? GOOD', 'return 1 ? GOOD'],
      ['|| bytes > UINT32_MAX) return', ') return'],
      ['  if (bytes < header_bytes) return HR_RUN_BAD_ARGUMENT;\n', ''],
    ],
    CHECK,
  ),
  ...mutantsOf(
    'kernels/cpu/check_request.c',
    [['  hr_set_request_word(slot, HR_REQUEST_IS_CHECKED, 0);\n', '']],
    MERGE,
  ),
  ...mutantsOf(
    'kernels/cpu/merge_requests.c',
    [
      ['i + 1 == bags->bags ? bags->lookups : ', ''],
      ['    if (users_of(work->slots[r]) == 0) continue;\n', ''],
      ['  int some = 0;', '  int some = 1;'],
      ['  if (table->lookups > INT32_MAX) return TOO_LARGE;\n', ''],
      ['if (samples > INT32_MAX || users > INT32_MAX) return TOO_LARGE;', ';'],
      ['if (hr_request_word(slot, HR_REQUEST_IS_CHECKED) != 1) return NOT_CHECKED;', ';'],
      ['if (!block || merged->bytes > block_bytes) return NO_ROOM;', 'if (!block) return NO_ROOM;'],
      ['    begin = end;\n  }\n  return lookups;', '  }\n  return lookups;'],
      ['  writer.offsets[writer.bags] = (int32_t)writer.lookups;\n', ''],
    ],
    MERGE,
  ),
  ...mutantsOf(
    'src/serve/records/batch-memory.ts',
    [
      ['(bytes + ALIGNMENT) /', 'bytes /'],
      ['    this.#memory?.[Symbol.dispose]();\n    this.#memory = memory;', '    this.#memory = memory;'],
      ['if (bytes > this.#bytes) this', 'if (bytes >= this.#bytes) this'],
    ],
    ['test/serve/records/batch-memory.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/records/append-request.ts',
    [
      ['if (bytes > slot.bytes.length)', 'if (bytes > slot.bytes.length + 1)'],
      ['weights !== undefined && weights.length !== indices.length', 'false'],
      ['offsets.length !== count && offsets.length !== count + 1', 'offsets.length < count'],
    ],
    ['test/serve/records/append-request.test.ts'],
  ),
];
