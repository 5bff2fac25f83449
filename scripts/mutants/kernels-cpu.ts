/** The CPU kernels: checks of arguments and of bags, memory, threads, and the operators themselves. */
import { type Edit, type Mutant, mutantsOf } from './mutant.ts';

const CONFORMANCE = 'test/conformance/cpu.test.ts';
const VALIDATE = ['test/kernels/cpu/validate.test.ts'];
const MEMORY = ['test/kernels/cpu/memory.test.ts'];

/** A condition that arguments must meet, left out. */
const without = (condition: string): Edit => [condition, ''];

export const KERNELS_CPU: readonly Mutant[] = [
  ...mutantsOf(
    'kernels/cpu/validate.c',
    [
      ['return x >= 0 && x <= MOST;', 'return x >= 0;'],
      ['(stride >= columns && stride <= MOST)', 'stride <= MOST'],
      ['return rows <= 1 ||', 'return rows <= 2 ||'],
      without('table->dim > 0 && '),
      without('is_size(table->row_count) && '),
      ['table->row_format < HR_ROW_FORMATS', 'table->row_format <= HR_ROW_FORMATS'],
      ['table->pooling <= HR_POOL_MAX', 'table->pooling <= HR_POOL_MAX + 1'],
      without('(table->rows || table->row_count == 0) && '),
      ['(table->pruned == 0 || table->pruned == 1)', '1'],
      without('  if (bags->per_user != 0 && bags->per_user != 1) return 0;\n'),
      without('(bags->indices || bags->lookups == 0) && '),
      ['is_integer_bytes(bags->index_bytes)', '1'],
      ['bags->offset_count == count + 1)', 'bags->offset_count == count + 2)'],
      ['         (table->pooling == HR_POOL_SUM || !bags->weights);', '         1;'],
      ['return op->report && are_valid', 'return are_valid'],
      ['op->prefetch_level > HR_PREFETCH_NTA', 'op->prefetch_level > HR_PREFETCH_NTA + 1'],
      ['op->activation > HR_ACTIVATION_SIGMOID', 'op->activation > HR_ACTIVATION_SIGMOID + 1'],
      ['!op->cross_x0 != !op->cross_x || ', ''],
      ['if (op->inputs > 0 && (!op->input || !op->packed_weight)) return 0;', ''],
      ['if (op->dim > MOST / (op->features + 1)) return 0;', ''],
      ['op->features > most_features) return 0;', '0) return 0;'],
      ['op->function >= HR_ROW_FUNCTIONS', 'op->function > HR_ROW_FUNCTIONS'],
      ['op->narrow_to > HR_BFLOAT16', 'op->narrow_to > HR_BFLOAT16 + 1'],
      ['span->from + span->columns)) return 0;', 'span->columns)) return 0;'],
      ['  if (op[1] < 0) return 0; /* threads */\n', ''],
      ['op->users == 0 || !op->user_output', '!op->user_output'],
    ],
    VALIDATE,
  ),
  ...mutantsOf(
    'kernels/cpu/run.c',
    [
      ['    if (!hr_is_valid_operator(words + i * HR_OP_WORDS)) return HR_RUN_BAD_ARGUMENT;', '    ;'],
      ['outputs < 0 || inputs < 0 || ', ''],
      ['if (threads < 1 || !has_isa(isa)) return NULL;', 'if (threads < 1) return NULL;'],
      ['  pthread_mutex_unlock(&pool->one_run_at_a_time);\n  return status;', '  return status;'],
      ['if (seconds) seconds[i] = end - start;\n    start = end;', 'if (seconds) seconds[i] = end - start;'],
      ['i < count && status == HR_RUN_DONE', 'i < count'],
    ],
    [...VALIDATE, 'test/kernels/cpu/memory.test.ts', CONFORMANCE],
  ),
  ...mutantsOf(
    'kernels/cpu/run.c',
    [
      ['  hr_team_destroy(pool->team);\n', ''],
      ['  free(pool->scratch);\n  free(pool);', '  free(pool);'],
      ['  free(pool->scratch);\n  pool->scratch = scratch;', '  pool->scratch = scratch;'],
    ],
    [...MEMORY, CONFORMANCE],
  ),
  ...mutantsOf(
    'kernels/cpu/memory.c',
    [
      ['  munmap(memory, (size_t)(mapped_bytes(taken->owned.amount) + page_bytes()));\n', ''],
      ['(mapped_bytes(taken->owned.amount) + page_bytes()));', 'mapped_bytes(taken->owned.amount));'],
      ['if (bytes < 0 || bytes > INT64_MAX / 2) return NULL;', ''],
      ['  if (before_bytes > 0) munmap(all, (size_t)before_bytes);\n', ''],
      ['  if (slack_bytes > before_bytes) munmap', '  if (0) munmap'],
      ['  mprotect(guard, (size_t)page_bytes(), PROT_NONE);\n', ''],
      ['  fclose(smaps);\n', ''],
      ['  close(file);\n', ''],
      ['      status = -1;', '      break;'],
      ['hr_min(kilobytes * 1024, overlap_bytes)', 'hr_min(kilobytes, overlap_bytes)'],
      ['offset + done);\n    if (got', 'offset);\n    if (got'],
    ],
    [...MEMORY, 'test/backend/cpu/placement.test.ts'],
  ),
  ...mutantsOf(
    'kernels/cpu/mapped_file.c',
    [
      ['  munmap((void *)atomic_load(&mapping->begin), (size_t)mapping->bytes);\n', ''],
      ['  close(mapping->file);\n', ''],
      ['    if (file >= 0) close(file);\n', ''],
      [
        '    if (atomic_load(&known->end) == 0) return known;',
        '    if (0) return known;',
        'the list grows instead of being used again: some hundred bytes a file, which nothing outside can see',
      ],
      ['      atomic_store(&mapping->changed, 0);\n', ''],
      ['  if (status->st_size != mapping->bytes || ', '  if ('],
      ['other->inode == mapping->inode', '1'],
      ['s == SAMPLES - 1 ? bytes - piece_bytes :', 's == SAMPLES ? bytes - piece_bytes :'],
      [
        '? 0 : errno;',
        '? 0 : 0;',
        'mprotect of a private mapping of ours fails only where the kernel is out of memory',
      ],
    ],
    [...MEMORY, 'test/backend/cpu/changed-file.test.ts', 'test/backend/cpu/mapped-updates.test.ts'],
  ),
  ...mutantsOf(
    'kernels/cpu/check_bags.c',
    [
      [
        'const int64_t past_rows = hr_min(table->row_count, past_int32);',
        'const int64_t past_rows = table->row_count;',
      ],
      ['(unsigned_type)value - first) >= limit;', '(unsigned_type)value - first) > limit;'],
      ['bad += (value < before) | (value > lookups);', 'bad += (value <= before) | (value > lookups);'],
      ['!= 0;\n    first++;', '< 0;\n    first++;'],
      ['hr_max(bags->lookups, bags->offset_count)', 'bags->lookups'],
      ['index >= table->row_count) memset', 'index > table->row_count) memset'],
      ['if (index < -table->pruned ||', 'if (index < 0 ||'],
      ['code == HR_BAGS_OFFSET_PAST_END ? bags->lookups : before', 'before'],
      [
        'report->position = i;\n    report->value = value;\n    report->limit = table->row_count;',
        'report->value = value;\n    report->limit = table->row_count;',
      ],
      [
        'atomic_fetch_add(&check->bad_indices, bad_indices)',
        'atomic_store(&check->bad_indices, bad_indices)',
      ],
    ],
    ['test/kernels/cpu/check-bags.test.ts', CONFORMANCE],
  ),
  ...mutantsOf(
    'kernels/cpu/copy.c',
    [
      ['  free(pieces_before);\n', ''],
      ['0x7fff + (bits >> 16 & 1)', '0x8000'],
      ['magnitude < 0x38800000', 'magnitude < 0x38000000'],
      ['hr_min(bytes, -(int64_t)(uintptr_t)target & (LINE_BYTES - 1))', '0'],
      ['piece >= all->pieces_before[c + 1]', 'piece > all->pieces_before[c + 1]'],
      [
        'if (!hr_guarded(copy_rows, copy)) atomic_store(&copy->arrays_gone, 1);',
        'hr_guarded(copy_rows, copy);',
      ],
    ],
    [
      'test/ffi/host-memory.test.ts',
      ...VALIDATE,
      'test/kernels/cpu/memory.test.ts',
      CONFORMANCE,
      'test/backend/cpu/changing-arrays.test.ts',
    ],
  ),
  ...mutantsOf(
    'kernels/cpu/merge_requests.c',
    [
      ['table_count + 2) return;', 'table_count + 1) return;'],
      ['put_table(work, part - 2);', 'put_table(work, part % 2);'],
      ['  if (work->merged->users == 0) return;\n', ''],
    ],
    ['test/serve/records/merge.test.ts'],
  ),
  ...mutantsOf(
    'kernels/cpu/thread_pool.c',
    [
      ['    pthread_join(team->worker[i].thread, NULL);\n', ''],
      ['for (int64_t i = 0; i < team->workers; i++) offer(&team->worker[i], STOP);', ''],
    ],
    MEMORY,
  ),
  ...mutantsOf(
    'kernels/cpu/embedding_bags.c',
    [
      ['  free(member.long_piece.memory);\n', ''],
      [
        'if (status == HR_RUN_STOPPED) return fill_stop_report(pool, op);',
        'if (status == HR_RUN_STOPPED) return status;',
      ],
      ['if (bag == count && !hr_are_good_lookups', 'if (bag > count && !hr_are_good_lookups'],
    ],
    [...MEMORY, CONFORMANCE],
  ),
  ...mutantsOf(
    'kernels/cpu/bag_piece.h',
    [['  free(piece->memory);\n', '']],
    [...MEMORY, 'test/backend/cpu/pieces.test.ts', CONFORMANCE],
  ),
  ...mutantsOf(
    'kernels/cpu/move_rows.c',
    [
      ['    if (row < 0 || row >= move->row_count) continue;\n    char *to', '    char *to'],
      [
        '    if (row < 0 || row >= move->row_count) continue;\n    const char *from',
        '    if (row < 0 || row > move->row_count) continue;\n    const char *from',
      ],
    ],
    ['test/kernels/cpu/validate.test.ts', CONFORMANCE],
  ),
  ...mutantsOf(
    'kernels/cpu/draw_lookups.c',
    [
      ['    if (!is_valid(&draws[d])) return HR_RUN_BAD_ARGUMENT;\n', ''],
      ['return rest < 0 ? rest + draw->rows :', 'return'],
      ['hr_min(draw->rows - 1, (int64_t)(place * rows))', '(int64_t)(place * rows)'],
    ],
    ['test/ffi/draw-lookups.test.ts'],
  ),
  ...mutantsOf(
    'kernels/cpu/spread_rows.c',
    [
      [
        'while (hr_load_integer(op->starts, 4, source + 1) <= row) source++;',
        'while (hr_load_integer(op->starts, 4, source + 1) < row) source++;',
      ],
      ['to + span->to, from + span->from', 'to + span->from, from + span->from'],
    ],
    [CONFORMANCE],
  ),
  ...mutantsOf(
    'kernels/cpu/fill.c',
    [
      ['row_stride_bytes % 8 != 0 || row_stride_bytes < bytes', 'row_stride_bytes % 8 != 0'],
      ['if (fill->row_format == HR_INT4 && fill->dim % 2) to[end - 1] &= 15;', ''],
    ],
    ['test/kernels/cpu/validate.test.ts', CONFORMANCE],
  ),
];
