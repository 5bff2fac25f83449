#!/usr/bin/env bash
# Makes the recorded results of a GPU: what the docs quote, and the outputs of the tests there.
#
#   bench/record-gpu.sh OUT PREFIX [STEP...]     PREFIX: h200; TRACES: a folder with the artifact's traces
#
# Steps: conformance sanitizer paper artifact traces formats sweeps characterize tune mixed model mlperf shapes short streams
# accuracy dense host updates (default: all). A step that fails is said at the end, the others go on. What is slow to look at goes to OUT/PREFIX-*.txt.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$1 prefix=$2
shift 2
steps=${*:-conformance sanitizer paper artifact traces formats sweeps characterize tune mixed model mlperf shapes short streams accuracy dense host updates}
traces=${TRACES:-../shared/traces}
golden=${HOTROW_SHARED:-../shared}/golden
failed=()
# Kernels that are compiled side by side.
export UV_THREADPOOL_SIZE=${UV_THREADPOOL_SIZE:-16}
hotrow() { node dist/cli/main.js "$@"; }
bench() {
  local name=$1
  shift
  hotrow bench --device cuda --json "$out/$prefix-$name.json" "$@" >"$out/$prefix-$name.txt"
}

# One after the other: contexts of several processes share a GPU by turns of milliseconds, which small launches wait for.
conformance() {
  local test status=0
  for test in test/gpu/*.test.ts; do
    node --import tsx --test-reporter=tap "$test" >"$out/$prefix-$(basename "$test" .test.ts).tap" || status=1
  done
  return $status
}
# Over a part of the suite: every kernel is slowed down many times. cuBLASLt's 16-bit products end racecheck with an internal
# error, and so whole models are left out of it.
sanitizer() {
  local status=0
  sanitize memcheck 'different dims|one fault|uneven bags|model with dot|lookups read updated' || status=1
  sanitize racecheck 'different dims|one fault|uneven bags|dot interaction|lookups read updated' || status=1
  return $status
}
sanitize() {
  compute-sanitizer --tool "$1" --error-exitcode 1 --kernel-name kns=hotrow_ \
    node --import tsx --test-name-pattern="$2" test/gpu/conformance.test.ts >"$out/$prefix-$1.txt"
}
shapes() { node --import tsx bench/cuda-kernels/bag-shapes.ts "$out/$prefix-bag-shapes.json"; }
short() { node --import tsx bench/cuda-kernels/short-bags.ts "$out/$prefix-short-bags.json" >"$out/$prefix-short-bags.txt"; }
streams() {
  local precision
  for precision in float16 float8_e4m3; do
    node --import tsx bench/cuda-kernels/streams.ts "$out/$prefix-streams-$precision.json" --sets 1,2 --first dense --rounds 1 \
      --precision "$precision" >"$out/$prefix-streams-$precision.txt" || return 1
  done
}
# A model that has learned, in each precision beside itself in float32; in 8 bits as calibration on its requests makes it.
accuracy() {
  local trained=$out/trained precision scales
  python3 bench/accuracy/train_dlrm_dcnv2.py "$trained" >"$out/$prefix-trained.txt" || return 1
  for precision in ${PRECISIONS:-float16 bfloat16 tf32}; do
    evaluate "$trained/model.safetensors" "accuracy-$precision" --precision "$precision" || return 1
  done
  for scales in output tensor; do
    hotrow quantize "$trained/model.safetensors" --dense float8_e4m3 --calibrate "$trained/requests-0.safetensors" --device cuda \
      --weight-scales $scales --out "$trained/$scales.safetensors" >"$out/$prefix-calibration-$scales.txt" || return 1
    evaluate "$trained/$scales.safetensors" "accuracy-float8_e4m3-$scales" || return 1
  done
}
# evaluate MODEL NAME [FLAGS]
evaluate() {
  local model=$1 name=$2
  shift 2
  hotrow evaluate "$model" --against "$trained/model.safetensors" --device cuda --requests "$trained"/requests-*.safetensors \
    --labels "$trained/labels.safetensors" --batch-size 8192 "$@" --json "$out/$prefix-$name.json" >"$out/$prefix-$name.txt"
}
dense() { node --import tsx bench/cuda-kernels/dense-run.ts "$out/$prefix-dense.json"; }
host() {
  node --import tsx bench/cuda-kernels/host-cost.ts "$out/$prefix-host-cost.json" \
    "$golden/criteo_dlrm.safetensors" "$golden/criteo.request.safetensors"
}
updates() { node --import tsx bench/row-updates.ts --device cuda --json "$out/$prefix-row-updates.json" >/dev/null; }
paper() { bench paper --preset paper --rounds 8; }
artifact() { bench artifact --preset artifact --no-peers; }
traces() { bench paper-traces --preset paper --rounds 8 --trace "$traces"/{med_hot,low_hot}.500K.txt; }
formats() {
  for format in ${FORMATS:-float16 bfloat16 int8 int4 float8_e4m3}; do
    bench "paper-$format" --preset paper --rounds 5 --row-format $format || return 1
  done
}
sweeps() { bench paper-sweeps --preset paper --rounds 4 --no-peers --sweep occupancy prefetch pinning; }
characterize() {
  counters counters || return 1
  for format in float16 int8; do
    counters counters-$format --variants fused --row-format $format || return 1
  done
}
counters() {
  local name=$1
  shift
  hotrow characterize --device cuda --preset paper --budget 10m --json "$out/$prefix-$name.json" "$@" >"$out/$prefix-$name.txt"
}
# tunes NAME PRESET BUDGET RUNS PATTERN...: each run in a process of its own; all that they print, as one list.
tunes() {
  local name=$1 preset=$2 budget=$3 runs=$4 pattern run separator='['
  shift 4
  for pattern in "$@"; do
    for run in $(seq "$runs"); do
      printf '%s' "$separator"
      separator=,
      hotrow tune --device cuda --preset "$preset" --pattern "$pattern" --budget "$budget" --format json \
        --out "$out/plan-$preset-$pattern-$run.json" || return 1
    done
  done >"$out/$prefix-$name.json"
  printf ']\n' >>"$out/$prefix-$name.json"
}
tune() { tunes tune paper 60s 2 one_item high_hot med_hot low_hot random; }
# A benchmark; then the found plan and the heuristic one in turns, on tables of mixed shapes.
mixed() { bench mixed --preset mixed --no-peers && tunes tune-mixed mixed 20s 5 high_hot med_hot random; }
model() { bench model --preset model --rounds 30 --index-type int32; }
mlperf() {
  for format in float16 int8; do
    bench "mlperf-$format" --preset mlperf --patterns random,med_hot --row-format $format || return 1
  done
  for batch in 2048 8192 32768 65536; do
    bench "mlperf-half-$batch" --preset mlperf --patterns random,med_hot --row-format float16 --precision float16 \
      --index-type int32 --batch $batch || return 1
  done
}

mkdir -p "$out"
for step in $steps; do
  echo "$step: $(date +%T)"
  $step || failed+=("$step")
done
echo "done: $(date +%T)${failed:+; failed: ${failed[*]}}"
[ ${#failed[@]} -eq 0 ]
