/** The globals of PyTorch that make tensors, and what stands for each. */
import { DistributedTensor } from './distributed-tensor.ts';
import { type Call, isStateful, PickledGlobal, type PickledValue, shown } from './pickled-value.ts';
import { pythonGlobals } from './python-globals.ts';
import { type Problem, SavedTensor, StridedTensor, UnreadableTensor, unsupported } from './saved-tensor.ts';
import { elementType, typeGlobal } from './torch-dtypes.ts';
import { UNREADABLE } from './torch-kinds.ts';

/** Classes of tensors that are spread over processes; TorchRec has some of its own. */
const DISTRIBUTED = /^(torch|torchrec)\.(.+\.)?(ShardedTensor|DTensor|LocalShardsWrapper)$/;

/** What the globals of one pickle stand for, as `unpickle` takes it. */
export function torchGlobal(file: string): (module: string, name: string) => PickledValue | undefined {
  const unreadable = (problem: Problem) => new UnreadableTensor(file, problem);
  /** `_rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks, metadata)`; `_rebuild_tensor` takes four. */
  const tensor: Call = ([storage, offset, shape, stride, , , metadata]) =>
    new StridedTensor(file, { storage, offset, shape, stride, metadata });
  /** `_rebuild_tensor_v3(storage, offset, shape, stride, requires_grad, hooks, dtype, metadata)`. */
  const typedTensor: Call = ([storage, offset, shape, stride, , , dtype, metadata]) => {
    const element = elementType(dtype);
    if (element === undefined)
      return unreadable(
        unsupported('has elements of a type that is not known', 'save it with tensor.float()'),
      );
    return new StridedTensor(file, { storage, offset, shape, stride, element, metadata });
  };
  /** A Parameter is the tensor that it holds, whatever else it carries. */
  const unwrapped: Call = ([data]) => data;
  /** `_rebuild_wrapper_subclass(class, dtype, shape, …)`: a tensor that holds others, which come with its state. */
  const wrapper: Call = ([type, , shape]) => {
    const name = type instanceof PickledGlobal ? type.type : 'unknown';
    return DISTRIBUTED.test(name) ? new DistributedTensor(file, name, shape) : subclass(name);
  };
  const subclass = (name: string) =>
    unreadable(
      unsupported(
        `is a ${shown(name)}, a subclass of torch.Tensor that holds its values in a way of its own`,
        'save the plain tensor: tensor.dequantize() where it is quantised, or what its class offers',
      ),
    );
  const inner: ReadonlyMap<string, Call> = new Map([
    ['torch._utils._rebuild_tensor_v2', tensor],
    ['torch._utils._rebuild_tensor_v3', typedTensor],
    ['torch._utils._rebuild_parameter', unwrapped],
    ['torch._utils._rebuild_parameter_with_state', unwrapped],
    ['torch._utils._rebuild_wrapper_subclass', wrapper],
    ...Object.entries(UNREADABLE).map(([name, problem]) => [name, () => unreadable(problem)] as const),
  ]);
  /** `_rebuild_from_type_v2(function, class, arguments, state)`: a subclass of tensor, made by what makes the plain one. */
  const ofSubclass: Call = ([make, type, args, state]) => {
    const call = make instanceof PickledGlobal ? inner.get(make.type) : undefined;
    const made = call !== undefined && Array.isArray(args) ? call(args) : undefined;
    if (!(made instanceof SavedTensor))
      return subclass(type instanceof PickledGlobal ? type.type : 'unknown');
    if (isStateful(made) && state !== undefined) made.setState(state);
    return made;
  };
  const calls: ReadonlyMap<string, Call> = new Map([
    ...inner,
    ['torch._utils._rebuild_tensor', tensor],
    ['torch._utils._rebuild_device_tensor_from_cpu_tensor', unwrapped],
    ['torch._tensor._rebuild_from_type', ofSubclass],
    ['torch._tensor._rebuild_from_type_v2', ofSubclass],
    ['torch.Size', ([extents]) => (Array.isArray(extents) ? extents : undefined)],
    ['torch.device', device],
  ]);
  const python = pythonGlobals();
  return (module, name) => {
    const type = `${module}.${name}`;
    const call = calls.get(type);
    if (call !== undefined) return new PickledGlobal(type, call);
    if (DISTRIBUTED.test(type)) return new PickledGlobal(type, () => new DistributedTensor(file, type));
    return typeGlobal(module, name) ?? python(module, name);
  };
}

/** `torch.device('cuda', 0)` as its text. */
const device: Call = ([type, index]) =>
  typeof type !== 'string' ? undefined : typeof index === 'number' ? `${type}:${index}` : type;
