#!/usr/bin/env bash
# Everything that only a machine with a GPU can show, within 8 minutes: build, tests, sanitizers, benchmark.
#
# In: a checkout; PyTorch with CUDA, Triton and nvcc. Nothing is downloaded. Options go to `python -m benchmarks.gpu`.
# Out: benchmarks/results/*.json, a table, and last what failed (exit code 1); logs and the JSON in $OUT if that is set.
set -uo pipefail
cd "$(dirname "$0")/.."

readonly python=${PYTHON:-python3}
readonly steps_end=280 benchmark_end=460  # seconds since the beginning; no step runs longer than to the first
readonly logs=${OUT:-$(mktemp -d)}
readonly steps=$(mktemp)
failures=()

note() { # NAME EXIT_CODE SECONDS LAST_LINE: for the JSON
  printf '%s\t%s\t%s\t%s\n' "$@" >>"$steps"
  printf '%4d s  %s: exit code %s, %d s  %s\n' "$SECONDS" "$@"
}

step() { # NAME SECONDS COMMAND...: runs it, not longer than that, and goes on whatever happens
  local name=$1 limit=$2 begun=$SECONDS code=0
  shift 2
  ((limit > steps_end - SECONDS)) && limit=$((steps_end - SECONDS))
  if ((limit < 10)); then
    failures+=("$name: no time was left")
    return
  fi
  timeout --kill-after=5 "$limit" "$@" >"$logs/$name.log" 2>&1 || code=$?
  note "$name" "$code" $((SECONDS - begun)) "$(grep -v '^[[:space:]]*$' "$logs/$name.log" | tail -n 1 | tr '\t' ' ')"
  ((code == 0)) || failures+=("$name: exit code $code, see $logs/$name.log")
}

if ! arch=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())' 2>/dev/null); then
  echo "benchmarks/gpu.sh: $python finds no PyTorch with a CUDA device; there is nothing to measure" >&2
  exit 1
fi

export PYTHONUNBUFFERED=1 WSOLKERN_CUDA=1 WSOLKERN_CUDA_ARCHS=$arch
step build 150 "$python" -m pip install --no-build-isolation --no-deps -e .

parallel=()
"$python" -c 'import xdist' 2>/dev/null && parallel=(-n 8)
step tests 120 "$python" -m pytest -q -m gpu "${parallel[@]}" tests

# A few small maps (nested rings, ties, a CAM that is resized), and 256 x 257 pixels, which do not fit shared memory.
subset='odd_37x53 or ring_in_ring or plateaus_4_levels or cam_14x14 or size1'
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    # Without PyTorch's cache of memory every tensor has an allocation of its own, whose end is known.
    step "$tool" 45 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
      compute-sanitizer --tool "$tool" --target-processes application-only --error-exitcode 9 \
      "$python" -m pytest -q -m gpu -p no:cacheprovider tests/gpu/test_gpu_trees.py tests/gpu/test_gpu_kernels.py -k "$subset"
  done
else
  note sanitizers - 0 "compute-sanitizer is not on PATH"
fi
((SECONDS < 200)) && step table 60 "$python" -m pytest -q "${parallel[@]}" tests/ops/test_ops.py

begun=$SECONDS
timeout --kill-after=5 $((benchmark_end + 10 - SECONDS)) "$python" -m benchmarks.gpu --save --steps "$steps" \
  --ncu "$logs/ncu.txt" --seconds $((benchmark_end - 40 - SECONDS)) "$@" 2>&1 |
  tee "$logs/benchmark.log"
code=${PIPESTATUS[0]}
((code == 0)) || failures+=("benchmark: exit code $code, see $logs/benchmark.log")
if [[ -n ${OUT:-} ]]; then
  find benchmarks/results -name '*-gpu-*.json' -newer "$steps" -exec cp {} "$OUT" \;
fi
echo "$SECONDS s in all, $((SECONDS - begun)) s of them for the benchmark; logs: $logs"
if ((${#failures[@]})); then
  printf 'FAILED: %s\n' "${failures[@]}"
  exit 1
fi
