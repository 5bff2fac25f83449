/** How Criteo's category strings become rows of tables. */
import { type ErrorDetails, WorkloadError } from '../errors.ts';
import { CRITEO_CATEGORIES } from '../formats/criteo-columns.ts';
import { readJsonFile } from '../formats/json-file.ts';

/** How category strings become rows. */
export type CategoryRows =
  /** A JSON file: per field, the strings in row order. An unknown string is an error, or row `unknownRow` if given. */
  | { readonly vocabulary: string; readonly unknownRow?: number }
  /**
   * The string read as a hexadecimal number, modulo the table's rows; missing → 0. facebookresearch/dlrm takes the
   * number as it is; TorchRec keeps its 32 bits as an int32 (torchrec/datasets/criteo.py) and takes the modulus that
   * is not negative.
   */
  | { readonly tableRows: readonly number[]; readonly hexadecimal?: 'unsigned' | 'int32' };

/** Refuses a row's value. */
export type Reject = (
  column: string,
  message: string,
  details?: Pick<ErrorDetails, 'hint' | 'value'>,
) => never;

/** The row of a field's category; `column` is what an error calls the field. */
export type RowOf = (field: number, category: string, column: string, reject: Reject) => number;

/** A value as an error gives it: a hostile file must not fill the screen. */
export const shorten = (text: string) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);
export const quote = (text: string) => JSON.stringify(shorten(text));

/** @throws UsageError FILE_*; FormatError; WorkloadError VOCABULARY_INVALID, CRITEO_INVALID. */
export async function categoryRows(rows: CategoryRows): Promise<RowOf> {
  return 'vocabulary' in rows ? vocabularyRows(rows.vocabulary, rows.unknownRow) : hashedRows(rows);
}

async function vocabularyRows(file: string, unknownRow: number | undefined): Promise<RowOf> {
  const fields = await readJsonFile(file, 'vocabulary');
  const isVocabulary =
    Array.isArray(fields) &&
    fields.every((field) => Array.isArray(field) && field.every((word) => typeof word === 'string'));
  if (!isVocabulary || (fields as string[][]).length !== CRITEO_CATEGORIES) {
    throw new WorkloadError(
      'VOCABULARY_INVALID',
      `${file} is not a list of ${CRITEO_CATEGORIES} lists of strings`,
      { file, hint: 'a vocabulary lists, per field C1–C26, the category strings in row order' },
    );
  }
  const rows = (fields as string[][]).map((words) => new Map(words.map((word, row) => [word, row])));
  rows.forEach((places, field) => {
    const words = (fields as string[][])[field] as string[];
    if (places.size === words.length) return;
    const twice = words.find((word, row) => places.get(word) !== row) as string;
    throw new WorkloadError('VOCABULARY_INVALID', `${file}: C${field + 1} lists ${quote(twice)} twice`, {
      file,
      value: shorten(twice),
    });
  });
  return (field, category, column, reject) =>
    rows[field]?.get(category) ??
    unknownRow ??
    reject(column, `category ${quote(category)} is not in the vocabulary`, {
      value: shorten(category),
      hint: `add it to ${file}, or use the vocabulary that the model was trained with`,
    });
}

function hashedRows({
  tableRows,
  hexadecimal = 'unsigned',
}: Extract<CategoryRows, { tableRows: readonly number[] }>): RowOf {
  if (tableRows.length !== CRITEO_CATEGORIES) {
    throw new WorkloadError(
      'CRITEO_INVALID',
      `Criteo rows have ${CRITEO_CATEGORIES} categories, the model has ${tableRows.length} tables`,
    );
  }
  return (field, category, column, reject) => {
    if (category === '') return 0;
    if (!/^[0-9a-fA-F]{1,12}$/.test(category))
      reject(column, `category ${quote(category)} is not hexadecimal`, {
        value: shorten(category),
        hint: 'categories are hashed as hexadecimal numbers; other strings need a vocabulary',
      });
    const rows = tableRows[field] as number;
    const number = Number.parseInt(category, 16);
    return hexadecimal === 'unsigned' ? number % rows : (((number | 0) % rows) + rows) % rows;
  };
}
