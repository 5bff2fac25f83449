/**
 * Every error class and code. An error says what is wrong and where, carries a stable `code`, and, where there is one,
 * a `hint` that says what to do. Codes are part of the public API: they are added, never renamed.
 */

/** What a program may branch on. Grouped by the class that carries them. */
export type UsageErrorCode = 'USAGE' | 'FILE_NOT_FOUND' | 'FILE_UNREADABLE' | 'FILE_UNWRITABLE';
export type FormatErrorCode =
  | 'FORMAT_UNKNOWN'
  | 'FILE_TRUNCATED'
  | 'SAFETENSORS_INVALID'
  | 'TORCH_FILE_INVALID'
  | 'TORCH_FORMAT_UNSUPPORTED'
  | 'PICKLE_INVALID'
  | 'PICKLE_FORBIDDEN'
  | 'GZIP_INVALID'
  | 'GZIP_BOMB'
  | 'JSON_INVALID';
export type ModelErrorCode =
  | 'CHECKPOINT_UNRECOGNISED'
  | 'CHECKPOINT_INCONSISTENT'
  | 'CHECKPOINT_UNSUPPORTED'
  | 'ARCHITECTURE_AMBIGUOUS'
  | 'MODEL_TOO_LARGE';
export type RequestErrorCode =
  | 'INDEX_OUT_OF_RANGE'
  | 'OFFSETS_INVALID'
  | 'TABLE_MISSING'
  | 'TABLE_UNEXPECTED'
  | 'TENSOR_MISSING'
  | 'TENSOR_UNEXPECTED'
  | 'TENSOR_DTYPE'
  | 'TENSOR_SHAPE';
export type WorkloadErrorCode = 'TRACE_INVALID' | 'TRACE_EMPTY' | 'CRITEO_INVALID' | 'VOCABULARY_INVALID';
export type PlanErrorCode = 'PLAN_INVALID' | 'PLAN_ILLEGAL';
export type DeviceErrorCode =
  | 'DEVICE_UNAVAILABLE'
  | 'NATIVE_LIBRARY_MISSING'
  | 'NATIVE_LIBRARY_INCOMPATIBLE'
  | 'OUT_OF_MEMORY'
  | 'KERNEL_FAILED'
  | 'DISPOSED';

export type ErrorCode =
  | UsageErrorCode
  | FormatErrorCode
  | ModelErrorCode
  | RequestErrorCode
  | WorkloadErrorCode
  | PlanErrorCode
  | DeviceErrorCode;

export interface ErrorDetails {
  /** What the user can do about it. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** The file that is wrong. */
  readonly file?: string;
  /** The tensor that is wrong, by its name in the file. */
  readonly tensor?: string;
  /** The embedding table, by its number. */
  readonly table?: number;
  /** The position in the tensor, or the line of a text file (1-based). */
  readonly position?: number;
  /** The offending value. */
  readonly value?: number | bigint | string;
}

/** The base of every error that Hotrow throws on purpose. */
export class HotrowError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = details.hint;
    this.details = details;
  }
}

/** The caller asked for something that does not exist or cannot be: a flag, an option, a path. */
export class UsageError extends HotrowError {
  constructor(code: UsageErrorCode, message: string, details?: ErrorDetails) {
    super(code, message, details);
  }
}

/** A file is not what its format says. */
export class FormatError extends HotrowError {
  constructor(code: FormatErrorCode, message: string, details?: ErrorDetails) {
    super(code, message, details);
  }
}

/** A checkpoint's tensors do not make a DLRM. */
export class ModelError extends HotrowError {
  constructor(code: ModelErrorCode, message: string, details?: ErrorDetails) {
    super(code, message, details);
  }
}

/** A request does not fit the model, or holds bad indices, offsets, dtypes or shapes. */
export class RequestError extends HotrowError {
  constructor(code: RequestErrorCode, message: string, details?: ErrorDetails) {
    super(code, message, details);
  }
}

/** A trace, a data set or a vocabulary is malformed. */
export class WorkloadError extends HotrowError {
  constructor(code: WorkloadErrorCode, message: string, details?: ErrorDetails) {
    super(code, message, details);
  }
}

/** A plan is malformed, or not legal on the device or for the tables. */
export class PlanError extends HotrowError {
  constructor(code: PlanErrorCode, message: string, details?: ErrorDetails) {
    super(code, message, details);
  }
}

/** A device, its libraries or its memory are missing or failed. */
export class DeviceError extends HotrowError {
  constructor(code: DeviceErrorCode, message: string, details?: ErrorDetails) {
    super(code, message, details);
  }
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
