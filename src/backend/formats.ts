/** Which formats the matrices of an operation may have. */
import { refuseOption } from '../checks/value.ts';
import { activationsOn, type DeviceDescription, type ElementFormat } from '../device.ts';
import {
  type CopyOperation,
  type DotInteractionOperation,
  formatOf,
  type LinearOperation,
  type Matrix,
  type Operation,
} from './backend.ts';

/** @throws UsageError OPTION_INVALID naming the matrix, for one whose elements the operation does not take on `device`. */
export function checkFormats(program: readonly Operation[], device: DeviceDescription): void {
  const own = device.capabilities.precisions.map((precision) => activationsOn(device, precision));
  const known = [...new Set<ElementFormat>(['float32', ...own])];
  for (const [place, operation] of program.entries()) checkOperation(operation, known, `program[${place}]`);
}

function checkOperation(operation: Operation, known: readonly ElementFormat[], at: string): void {
  switch (operation.op) {
    case 'upload':
      check(operation.output, ['float32'], `${at}.output`);
      return;
    case 'linear':
      checkLinear(operation, at);
      return;
    case 'dotInteraction':
      checkDot(operation, at);
      return;
    case 'rowFunction':
      check(operation.input, known, `${at}.input`);
      check(operation.output, [formatOf(operation.input)], `${at}.output`);
      return;
    case 'copy':
      checkCopy(operation, known, at);
      return;
    case 'transfer':
      check(operation.output, [formatOf(operation.input)], `${at}.output`);
      return;
    case 'download':
    case 'embeddingBags':
      return;
    default:
      operation satisfies never;
  }
}

function checkLinear({ layer, input, output, cross }: LinearOperation, at: string): void {
  const formats = ['float32', activationsOn(layer.device, layer.precision)] as const;
  check(input, formats, `${at}.input`);
  check(output, formats, `${at}.output`);
  if (cross === undefined) return;
  check(cross.x0, [formatOf(output)], `${at}.cross.x0`);
  check(cross.x, [formatOf(output)], `${at}.cross.x`);
}

function checkDot({ precision, input, output }: DotInteractionOperation, at: string): void {
  const own = activationsOn(input.buffer.device, precision);
  check(input, [own], `${at}.input`);
  check(output, [own], `${at}.output`);
}

function checkCopy({ input, output }: CopyOperation, known: readonly ElementFormat[], at: string): void {
  check(input, known, `${at}.input`);
  const from = formatOf(input);
  check(output, from === 'float32' ? known : ['float32', from], `${at}.output`);
}

function check(matrix: Matrix, formats: readonly ElementFormat[], at: string): void {
  const format = formatOf(matrix);
  if (!formats.includes(format)) refuseOption(`${at}.format`, format, [...new Set(formats)].join(' or '));
}
