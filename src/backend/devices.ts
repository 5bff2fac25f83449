/** Where the operations of a program run. */
import type { DeviceDescription } from '../device.ts';
import { UsageError } from '../errors.ts';
import type { Operation, TransferOperation } from './backend.ts';

/** What is on a device. */
interface Placed {
  readonly device: DeviceDescription;
}

/** Operations that all run where their matrices are. */
type OnOneDevice = Exclude<Operation, TransferOperation>;

/** What an operation works on, by the names of its members. */
function membersOf(operation: OnOneDevice): readonly [name: string, placed: Placed][] {
  switch (operation.op) {
    case 'upload':
      return [['output', operation.output.buffer]];
    case 'download':
      return [['input', operation.input.buffer]];
    case 'embeddingBags':
      return [
        ['tables', operation.tables],
        ['output', operation.output.buffer],
      ];
    case 'linear': {
      const { layer, input, output, cross } = operation;
      const ofCross: [string, Placed][] =
        cross === undefined
          ? []
          : [
              ['cross.x0', cross.x0.buffer],
              ['cross.x', cross.x.buffer],
            ];
      return [['layer', layer], ['input', input.buffer], ['output', output.buffer], ...ofCross];
    }
    case 'dotInteraction':
    case 'rowFunction':
    case 'copy':
      return [
        ['input', operation.input.buffer],
        ['output', operation.output.buffer],
      ];
    default:
      return operation satisfies never;
  }
}

/**
 * The device that an operation runs on: all that it works on is there. `at`: the operation, for the message.
 * @throws UsageError OPTION_INVALID for one that mixes devices, naming both.
 */
export function deviceOf(operation: OnOneDevice, at: string): DeviceDescription {
  const [[first, { device }], ...others] = membersOf(operation) as [[string, Placed], ...[string, Placed][]];
  for (const [name, { device: other }] of others) {
    if (other.id !== device.id)
      refuseDevices(at, `mixes devices: ${first} on ${device.id}, ${name} on ${other.id}`);
  }
  return device;
}

/** Checks that a program runs on `device`. @throws UsageError OPTION_INVALID, naming both devices, for operations of another. */
export function checkDevice(program: readonly Operation[], device: DeviceDescription): void {
  program.forEach((operation, place) => {
    const at = `program[${place}]`;
    if (operation.op === 'transfer') {
      checkTransfer(operation, device, at);
      return;
    }
    const { id } = deviceOf(operation, at);
    if (id !== device.id) refuseDevices(at, `is on ${id}, and was given to ${device.id}`);
  });
}

function checkTransfer({ input, output }: TransferOperation, own: DeviceDescription, at: string): void {
  const [from, to] = [input.buffer.device, output.buffer.device];
  if (from.id !== own.id && to.id !== own.id)
    refuseDevices(at, `transfers from ${from.id} to ${to.id}, and was given to ${own.id}`);
  for (const { id, kind } of [from, to]) {
    if (id === own.id || own.capabilities.exchangesWith.includes(kind)) continue;
    throw new UsageError(
      'OPTION_INVALID',
      `${at} transfers from ${from.id} to ${to.id}, but ${own.id} does not reach the memory of ${id}`,
      { option: at, hint: `run it on ${id}` },
    );
  }
}

function refuseDevices(at: string, why: string): never {
  throw new UsageError('OPTION_INVALID', `${at} ${why}`, {
    option: at,
    hint: 'allocate and place what an operation works on with one backend',
  });
}
