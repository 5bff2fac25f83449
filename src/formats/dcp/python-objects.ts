/** The Python objects of a checkpoint's `.metadata`, as plain data: what a pickle says of them. */
import type { Global, PickledValue, Stateful } from '../pickled-value.ts';

/** An object: its class by name, what it was made of, and its state, mostly its attributes. */
export class PythonObject implements Stateful {
  state: PickledValue = null;

  constructor(
    readonly className: string,
    readonly args: readonly PickledValue[],
  ) {}

  setState(state: PickledValue): void {
    this.state = state;
  }
}

/** torch.float32 and its like. */
export class TorchType {
  constructor(readonly name: string) {}
}

/** True for an object of the class of this name. */
export function isA(value: PickledValue | undefined, className: string): value is PythonObject {
  return value instanceof PythonObject && value.className === className;
}

/** An attribute of an object; undefined where it has none. */
export function attribute(value: PickledValue | undefined, name: string): PickledValue | undefined {
  return value instanceof PythonObject && value.state instanceof Map ? value.state.get(name) : undefined;
}

const TYPE = /^(b?float|double|half|complex|q?u?int|bool|bits|float\d_|float8_)\w*$/;

/** The allow-list: records of the checkpoint's own classes, and the torch types that they hold. */
export function dcpGlobal(
  module: string,
  name: string,
): Global | { readonly value: PickledValue } | undefined {
  if (module === 'torch' && name === 'Size') return (extents = []) => extents;
  if (module === 'torch' && TYPE.test(name)) return { value: new TorchType(name) };
  if (name === '_get_layout' && module.startsWith('torch')) return (layout = null) => layout;
  if (/^(torch\.distributed|pathlib)(\.|$)/.test(module)) return (...args) => new PythonObject(name, args);
  // How Python 3.11 writes members of an Enum.
  if (name === 'getattr' && /^(__builtin__|builtins)$/.test(module)) return () => null;
  return undefined;
}
