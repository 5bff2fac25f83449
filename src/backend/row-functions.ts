/**
 * Functions of a row that every device knows. A new one: its line here and in `HR_FOR_EACH_ROW_FUNCTION` of
 * kernels/cpu/row_functions.h, its kernels `kernels/cpu/{kernel}.h` and `kernels/cuda/{kernel}.cuh`, its reference in
 * dense/reference.ts.
 */

export interface RowFunctionFacts {
  /** Its place in HR_FOR_EACH_ROW_FUNCTION. */
  readonly number: number;
  /** Its name in kernels. */
  readonly kernel: string;
  /** Columns of the output, for so many of the input. */
  readonly outputs: (columns: number) => number;
}

const FUNCTIONS = {
  /** ½ · ((Σ x)² − Σ x²): the sum of the products of all pairs of elements. */
  factorizationMachine: { number: 0, kernel: 'factorization_machine', outputs: () => 1 },
} satisfies Readonly<Record<string, RowFunctionFacts>>;

export type RowFunction = keyof typeof FUNCTIONS;

export const ROW_FUNCTIONS: Readonly<Record<RowFunction, RowFunctionFacts>> = Object.freeze(FUNCTIONS);

export const ROW_FUNCTION_NAMES = Object.freeze(
  Object.keys(FUNCTIONS) as RowFunction[],
) as readonly RowFunction[];
