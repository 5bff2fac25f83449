/**
 * Every error class and code. An error says what is wrong and where, carries a stable `code`, and, where there is one,
 * a `hint` that says what to do. Codes are part of the public API: they are added, never renamed.
 */
import { printable, printableLines } from './text.ts';

/** What a program may branch on. Grouped by the class that carries them. */
export type UsageErrorCode =
  | 'USAGE'
  | 'OPTION_INVALID'
  | 'FILE_NOT_FOUND'
  | 'FILE_UNREADABLE'
  | 'FILE_UNWRITABLE';
export type FormatErrorCode =
  | 'FORMAT_UNKNOWN'
  | 'FILE_TRUNCATED'
  | 'FILE_CHANGED'
  | 'SAFETENSORS_INVALID'
  | 'TORCH_FILE_INVALID'
  | 'TORCH_FORMAT_UNSUPPORTED'
  | 'DCP_INVALID'
  | 'PICKLE_INVALID'
  | 'PICKLE_FORBIDDEN'
  | 'GZIP_INVALID'
  | 'GZIP_BOMB'
  | 'JSON_INVALID'
  | 'RESULTS_INVALID'
  | 'CERTIFICATE_INVALID'
  | 'TOKENS_INVALID';
export type ModelErrorCode =
  | 'CHECKPOINT_UNRECOGNISED'
  | 'CHECKPOINT_INCONSISTENT'
  | 'CHECKPOINT_UNSUPPORTED'
  | 'WEIGHTS_MISFIT'
  | 'ARCHITECTURE_AMBIGUOUS'
  | 'DESCRIPTION_INVALID'
  | 'VALUE_NOT_FINITE'
  | 'VALUE_OUT_OF_RANGE'
  | 'MODEL_TOO_LARGE';
export type RequestErrorCode =
  | 'INDEX_OUT_OF_RANGE'
  | 'OFFSETS_INVALID'
  | 'TABLE_MISSING'
  | 'TABLE_UNEXPECTED'
  | 'TENSOR_MISSING'
  | 'TENSOR_UNEXPECTED'
  | 'TENSOR_DTYPE'
  | 'TENSOR_SHAPE'
  | 'FEATURE_UNKNOWN'
  | 'UNKNOWN_ID'
  | 'LENGTHS_INVALID'
  | 'BAG_TOO_LONG'
  | 'USERS_INVALID'
  | 'DENSE_OUT_OF_RANGE'
  | 'REQUEST_INVALID'
  | 'ARRAYS_CHANGED';
export type WorkloadErrorCode =
  | 'TRACE_INVALID'
  | 'TRACE_EMPTY'
  | 'TRACE_MIXED'
  | 'CRITEO_INVALID'
  | 'VOCABULARY_INVALID';
export type PlanErrorCode = 'PLAN_INVALID' | 'PLAN_ILLEGAL' | 'PLACEMENT_INVALID' | 'PLACEMENT_ILLEGAL';
export type DeviceErrorCode =
  | 'DEVICE_UNAVAILABLE'
  | 'NATIVE_LIBRARY_MISSING'
  | 'NATIVE_LIBRARY_INCOMPATIBLE'
  | 'CUDA_LIBRARY_MISSING'
  | 'CUDA_FAILED'
  | 'OUT_OF_MEMORY'
  | 'KERNEL_COMPILE_FAILED'
  | 'KERNEL_FAILED'
  | 'PROFILER_FAILED'
  | 'OVERLOADED'
  | 'DISPOSED';
export type ServeErrorCode =
  | 'ROUTE_UNKNOWN'
  | 'METHOD_NOT_ALLOWED'
  | 'UNAUTHENTICATED'
  | 'ORIGIN_FORBIDDEN'
  | 'MODEL_UNKNOWN'
  | 'MODEL_UNAVAILABLE'
  | 'ADMIN_FORBIDDEN'
  | 'LOAD_FAILED'
  | 'REPOSITORY_INVALID'
  | 'PATCH_INVALID'
  | 'PATCH_GAP'
  | 'PATCH_CONFLICT'
  | 'OUTPUT_UNKNOWN'
  | 'BODY_TOO_LARGE'
  | 'CONTENT_UNSUPPORTED'
  | 'DEADLINE_UNMEETABLE'
  | 'DEADLINE_EXCEEDED'
  | 'SHUTTING_DOWN';
export type ClientErrorCode =
  | 'SERVER_UNREACHABLE'
  | 'SERVER_ANSWER_INVALID'
  | 'SERVER_REFUSED'
  | 'SERVER_FAILED';
export type AbortErrorCode = 'ABORTED';

export type ErrorCode =
  | UsageErrorCode
  | FormatErrorCode
  | ModelErrorCode
  | RequestErrorCode
  | WorkloadErrorCode
  | PlanErrorCode
  | DeviceErrorCode
  | ServeErrorCode
  | ClientErrorCode
  | AbortErrorCode;

export interface ErrorDetails {
  /** What the user can do about it. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** What a compiler, a driver or a profiler printed; it follows the message, line by line. */
  readonly log?: string;
  /** The file that is wrong. */
  readonly file?: string;
  /** The tensor that is wrong, by its name in the file. */
  readonly tensor?: string;
  /** The embedding table, by its number. */
  readonly table?: number;
  /** The feature, by its name. */
  readonly feature?: string;
  /** The sample, or the user of a user's part, counted from 0. */
  readonly sample?: number;
  /** The option, or the member of an argument, that is wrong. */
  readonly option?: string;
  /** The position in the tensor, or the line of a text file (1-based). */
  readonly position?: number;
  /** The offending value. */
  readonly value?: number | bigint | string;
}

const REQUEST_HINT =
  'a request holds dense [B, F] and, per table of the model, indices.{t}, offsets.{t} and optional weights.{t}; `hotrow inspect` lists the tables, docs/requests.md other forms';
const FORMS_HINT = 'docs/requests.md shows every form of a request';
const CHECKPOINT_HINT = 'docs/file-formats.md lists the parameter names and the architectures that are known';

/** What helps where an error has no hint of its own. */
const HINTS: Readonly<Record<ErrorCode, string>> = {
  USAGE: 'add --help for what the command takes',
  OPTION_INVALID: 'the types of the call say what it takes',
  FILE_NOT_FOUND: 'check the path',
  FILE_UNREADABLE: 'check the path and its permissions',
  FILE_UNWRITABLE: 'check the folder, its permissions and the free space',
  FORMAT_UNKNOWN: 'docs/file-formats.md lists the formats that are read',
  FILE_TRUNCATED: 'copy or download the file again',
  FILE_CHANGED:
    'load the model again; to replace a file that is in use, write the new one beside it and rename it over the old one',
  SAFETENSORS_INVALID: 'the file is damaged, or was not written by safetensors',
  TORCH_FILE_INVALID:
    'the file is damaged: copy it again, or save it again with torch.save(model.state_dict(), path)',
  TORCH_FORMAT_UNSUPPORTED: 'save it with torch.save(model.state_dict(), path)',
  DCP_INVALID:
    'the checkpoint is damaged or incomplete: copy its whole folder again, or save it again with torch.distributed.checkpoint',
  PICKLE_INVALID:
    'the file is damaged: copy it again, or save it again with torch.save(model.state_dict(), path)',
  PICKLE_FORBIDDEN: 'save the state dict by itself: torch.save(model.state_dict(), path)',
  GZIP_INVALID: 'copy or download the file again',
  GZIP_BOMB: 'gunzip it yourself if you trust it',
  JSON_INVALID: 'the file must hold one JSON value',
  RESULTS_INVALID:
    'results come from `hotrow bench`, `characterize`, `load` and `evaluate` with `--json FILE`',
  CERTIFICATE_INVALID: 'docs/serving.md says what --tls-cert, --tls-key and --tls-ca take',
  TOKENS_INVALID:
    'a token file has a token a line, of 16 to 512 letters, digits and -._~+/=: `openssl rand -hex 32` makes one',
  CHECKPOINT_UNRECOGNISED: CHECKPOINT_HINT,
  CHECKPOINT_INCONSISTENT: CHECKPOINT_HINT,
  CHECKPOINT_UNSUPPORTED: CHECKPOINT_HINT,
  WEIGHTS_MISFIT: 'weights are written over those of a model of the same shape',
  ARCHITECTURE_AMBIGUOUS:
    'write a model description that says which (hotrow inspect MODEL --write-description FILE)',
  DESCRIPTION_INVALID: 'docs/model-description.md lists every member',
  MODEL_TOO_LARGE: 'use fewer or smaller tables',
  INDEX_OUT_OF_RANGE:
    'check that the request was made for this model, or pass --index-checking warn to read row 0 instead',
  OFFSETS_INVALID:
    'offsets are running sums of the bag lengths, from 0; --index-checking warn clamps bad ones instead',
  USERS_INVALID:
    'users has one entry more than there are users and runs from 0 to the batch size: the candidates of user u are the samples from users[u] to before users[u + 1]',
  TABLE_MISSING: REQUEST_HINT,
  TABLE_UNEXPECTED: REQUEST_HINT,
  TENSOR_MISSING: REQUEST_HINT,
  TENSOR_UNEXPECTED: REQUEST_HINT,
  TENSOR_DTYPE: REQUEST_HINT,
  TENSOR_SHAPE: REQUEST_HINT,
  FEATURE_UNKNOWN: "features go by the names of the model's inputs; `hotrow inspect` lists them",
  UNKNOWN_ID:
    "use the vocabulary that the model was trained with, or let the model's inputs say what unknown ids become: `skip` or a row",
  LENGTHS_INVALID: 'lengths count the lookups of each bag, and add up to all of them',
  BAG_TOO_LONG: "shorten the list, or raise `longestBag` in the model's inputs",
  DENSE_OUT_OF_RANGE: "check that the preprocessing of the model's inputs is the one it was trained with",
  REQUEST_INVALID: FORMS_HINT,
  ARRAYS_CHANGED:
    'leave the arrays of a request as they are, and with their owner, until its prediction is done',
  VALUE_NOT_FINITE: 'only finite numbers can be quantised: find out how the row came to hold it',
  VALUE_OUT_OF_RANGE: 'leave the table as it is (--tables), or scale it',
  TRACE_INVALID: 'a trace has one row index a line, or is a dlrm_datasets file',
  TRACE_EMPTY: 'a trace has one row index a line, or is a dlrm_datasets file',
  TRACE_MIXED: 'traffic is of one form: put the others elsewhere',
  CRITEO_INVALID: 'Criteo rows have a label, 13 numbers and 26 categories',
  VOCABULARY_INVALID: 'a vocabulary lists, per field C1–C26, the category strings in row order',
  PLAN_INVALID: 'docs/plans.md shows a plan, docs/techniques.md the techniques and their parameters',
  PLAN_ILLEGAL: 'docs/techniques.md says where each technique is legal; --plan auto always is',
  PLACEMENT_INVALID: 'docs/plans.md shows a placement',
  PLACEMENT_ILLEGAL: "a placement names the model's tables, each once, in their order",
  DEVICE_UNAVAILABLE: '`hotrow devices` lists what this machine has',
  NATIVE_LIBRARY_MISSING: 'the CPU kernels are built by a C compiler: install one',
  NATIVE_LIBRARY_INCOMPATIBLE: 'install Hotrow again on this machine',
  CUDA_LIBRARY_MISSING:
    "install the CUDA toolkit or NVIDIA's Python packages; `hotrow devices` says where libraries are looked for",
  CUDA_FAILED: 'run again with --verbose; if the context was lost, in a new process',
  KERNEL_COMPILE_FAILED: "this is a defect in Hotrow: report it with the compiler's log",
  OUT_OF_MEMORY: 'close other programs, or use a smaller batch',
  KERNEL_FAILED: 'this is a defect in Hotrow: report it with the command that showed it',
  PROFILER_FAILED:
    'run `ncu` by hand on `hotrow bench` to see whether it works here; docs/characterize.md says what it needs',
  OVERLOADED:
    'send fewer calls at once, wait for some of them first, or raise `limits` of openBackend or loadModel',
  ROUTE_UNKNOWN: 'docs/serving-protocol.md lists the paths',
  METHOD_NOT_ALLOWED: 'docs/serving-protocol.md lists the methods of each path',
  UNAUTHENTICATED: 'send `Authorization: Bearer TOKEN`, with a token that the server knows',
  ORIGIN_FORBIDDEN: "pages of other origins need the server's --cors-origin",
  MODEL_UNKNOWN: 'POST /v2/repository/index lists the models and their versions',
  MODEL_UNAVAILABLE: 'POST /v2/repository/index says why; it may be loading, so try again, or another server',
  ADMIN_FORBIDDEN: 'start the server with --admin-token-file, or with --admin',
  LOAD_FAILED: 'what was served before goes on being served; docs/model-repository.md',
  REPOSITORY_INVALID: 'docs/model-repository.md shows the folder and lists the members of settings.json',
  PATCH_INVALID: 'docs/model-repository.md says what a patch holds',
  PATCH_GAP: 'send the patches in the order of their numbers',
  PATCH_CONFLICT: 'a number stands for one patch: give the next number to the other one',
  OUTPUT_UNKNOWN: "the model's metadata lists its outputs: GET /v2/models/{model}",
  BODY_TOO_LARGE: "divide the request into several, or raise the server's limit",
  CONTENT_UNSUPPORTED:
    'send JSON, tensors behind JSON, or safetensors, not compressed: docs/serving-protocol.md',
  DEADLINE_UNMEETABLE: 'send fewer requests at once, give them more time, or add a server',
  DEADLINE_EXCEEDED: 'send fewer requests at once, give them more time, or add a server',
  SHUTTING_DOWN: 'send the request to another server',
  SERVER_UNREACHABLE: 'check host and port, and that the server has started',
  SERVER_ANSWER_INVALID: 'the URL must be that of a server of the Open Inference Protocol, version 2',
  SERVER_REFUSED: "the server's message says what it does not take",
  SERVER_FAILED: "the server's log says more",
  ABORTED: 'the call was given up by its AbortSignal, as its caller asked',
  DISPOSED: 'keep models, collections and backends open until the last call has ended',
};

export function isErrorCode(text: unknown): text is ErrorCode {
  return typeof text === 'string' && Object.hasOwn(HINTS, text);
}

/** Characters of a message or a hint, and of a line of a log. */
const MESSAGE_CHARACTERS = 2000;

/**
 * The base of every error that Hotrow throws on purpose; each class has codes of its own. Messages and hints name what files
 * hold: they are one printable line each (text.ts), `details` has names and values as they are.
 */
export class HotrowError<Code extends ErrorCode = ErrorCode> extends Error {
  readonly code: ErrorCode;
  /** What to do about it. */
  readonly hint: string;
  /** What is wrong where; `inFile` and `ofTensor` may add to it. */
  details: ErrorDetails;

  constructor(code: Code, message: string, details: ErrorDetails = {}) {
    const { cause, log } = details;
    const line = printable(message, MESSAGE_CHARACTERS);
    super(
      log === undefined ? line : `${line}\n${printableLines(log, MESSAGE_CHARACTERS)}`,
      cause === undefined ? undefined : { cause },
    );
    this.name = new.target.name;
    this.code = code;
    this.hint = printable(details.hint ?? HINTS[code], MESSAGE_CHARACTERS);
    this.details = details;
  }

  /** Names the file where the error was found, unless it names one already. Gives itself back. */
  inFile(file: string): this {
    if (this.details.file !== undefined) return this;
    this.message = `${printable(file)}: ${this.message}`;
    this.details = { ...this.details, file };
    return this;
  }

  /** Names the tensor where the error was found, unless it names one already. Gives itself back. */
  ofTensor(tensor: string): this {
    if (this.details.tensor !== undefined) return this;
    this.message = `tensor ${printable(tensor)}: ${this.message}`;
    this.details = { ...this.details, tensor };
    return this;
  }
}

/** Runs `work` on the contents of a file; its errors name the file. */
export async function fromFile<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof HotrowError ? error.inFile(file) : error;
  }
}

/** Runs `work` on a file that another one names; where it cannot be opened, the error says too `where` it is named. */
export async function namedIn<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const { code, message, hint, details } = error;
    throw new UsageError(code as UsageErrorCode, `${where}: ${message}`, { ...details, hint, cause: error });
  }
}

/** The caller asked for something that does not exist or cannot be: a flag, an option, a path. */
export class UsageError extends HotrowError<UsageErrorCode> {}

/** A file is not what its format says. */
export class FormatError extends HotrowError<FormatErrorCode> {}

/** A checkpoint's tensors do not make a DLRM. */
export class ModelError extends HotrowError<ModelErrorCode> {}

/** A request does not fit the model, or holds bad indices, offsets, dtypes or shapes. */
export class RequestError extends HotrowError<RequestErrorCode> {}

/** A trace, a data set or a vocabulary is malformed. */
export class WorkloadError extends HotrowError<WorkloadErrorCode> {}

/** A plan or a placement is malformed, or not legal on the device or for the tables. */
export class PlanError extends HotrowError<PlanErrorCode> {}

/** A device, its libraries or its memory are missing or failed. */
export class DeviceError extends HotrowError<DeviceErrorCode> {}

/** A server does not take a request, for what it asks or for how much there is to do. */
export class ServeError extends HotrowError<ServeErrorCode> {}

/** A server that is asked is not there, or does not answer as its protocol says. */
export class ClientError extends HotrowError<ClientErrorCode> {}

/**
 * A server answered with an error. Code, hint and message are the server's; code SERVER_REFUSED or SERVER_FAILED (status 500 and
 * more) where it says none that Hotrow knows.
 */
export class ServerError extends HotrowError {
  /** Of HTTP. */
  readonly status: number;
  /** When the server says that one may try again. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    answer: { readonly status: number; readonly retryAfterMs: number | undefined; readonly hint?: string },
  ) {
    const { hint } = answer;
    super(code, message, hint === undefined ? {} : { hint });
    this.status = answer.status;
    this.retryAfterMs = answer.retryAfterMs;
  }
}

/** The caller gave the call up through its AbortSignal, whose reason is the `cause`. Named as the platform names it: AbortError. */
export class AbortError extends HotrowError<AbortErrorCode> {}

/** What a failing call into CUDA was. */
export interface CudaFailure {
  /** The function, as the vendor's documentation names it. */
  readonly call: string;
  /** The status it returned, by name. */
  readonly status: string;
  /** True when the device's context is lost with everything in it: only a new process helps. */
  readonly contextLost: boolean;
}

/** A call into the CUDA driver or one of its libraries failed. */
export class CudaError extends DeviceError {
  readonly call: string;
  readonly status: string;
  readonly contextLost: boolean;

  constructor(code: DeviceErrorCode, message: string, failure: CudaFailure, details?: ErrorDetails) {
    super(code, message, details);
    this.call = failure.call;
    this.status = failure.status;
    this.contextLost = failure.contextLost;
  }
}

/** The error for an array of a request that something happened to while it was read. */
export function arraysChanged(what: string): RequestError {
  return new RequestError('ARRAYS_CHANGED', `an array of the request ${what} while it was read`);
}

/** Turns a failing open/read of `file` into a typed error. */
export function fileError(file: string, cause: unknown): UsageError {
  const code = (cause as NodeJS.ErrnoException | null)?.code;
  if (code === 'ENOENT') return new UsageError('FILE_NOT_FOUND', `no such file: ${file}`, { file, cause });
  if (code === 'EISDIR')
    return new UsageError('FILE_UNREADABLE', `${file} is a folder, not a file`, { file, cause });
  return new UsageError('FILE_UNREADABLE', `cannot read ${file}: ${(cause as Error)?.message ?? cause}`, {
    file,
    cause,
  });
}

/**
 * Turns a failing write of `file` into a typed error. `why` it fails: default, what the system says.
 */
export function unwritable(
  file: string,
  cause: unknown,
  { why = systemReason(cause), ...details }: Pick<ErrorDetails, 'hint'> & { readonly why?: string } = {},
): UsageError {
  return new UsageError('FILE_UNWRITABLE', `cannot write ${file}: ${why}`, { ...details, file, cause });
}

/** What a system call says, without the call and its paths: `ENOSPC: no space left on device`. */
export function systemReason(cause: unknown): string {
  const { syscall, message } = cause as NodeJS.ErrnoException;
  const [reason = message] = syscall === undefined ? [] : message.split(`, ${syscall}`);
  return reason;
}
