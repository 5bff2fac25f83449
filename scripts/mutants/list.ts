/** All mutants, by area. */
import { BATCHING } from './batching.ts';
import { CORE } from './core.ts';
import { DEVICE } from './device.ts';
import { FORMATS } from './formats.ts';
import { KERNELS_CPU } from './kernels-cpu.ts';
import { LOAD } from './load.ts';
import { MEASURING } from './measuring.ts';
import { MODELS_AND_PROGRAMS } from './models.ts';
import type { Mutant } from './mutant.ts';
import { SERVE } from './serve.ts';
import { SERVE_ENGINE } from './serve-engine.ts';
import { SERVE_GRPC } from './serve-grpc.ts';
import { SERVE_HTTP } from './serve-http.ts';
import { SERVE_METRICS } from './serve-metrics.ts';
import { SERVE_MODELS } from './serve-models.ts';
import { SERVE_PROTOCOL } from './serve-protocol.ts';
import { SERVE_SECURITY } from './serve-security.ts';

export const MUTANTS: readonly Mutant[] = [
  ...FORMATS,
  ...KERNELS_CPU,
  ...MEASURING,
  ...CORE,
  ...DEVICE,
  ...MODELS_AND_PROGRAMS,
  ...BATCHING,
  ...SERVE,
  ...SERVE_ENGINE,
  ...SERVE_GRPC,
  ...SERVE_HTTP,
  ...SERVE_PROTOCOL,
  ...SERVE_SECURITY,
  ...LOAD,
  ...SERVE_METRICS,
  ...SERVE_MODELS,
];
