#!/usr/bin/env bash
# What only a machine with a GPU can show, in the order that a first run needs: the least that can fail comes first.
#
# In: a checkout; PyTorch with CUDA, Triton and nvcc. Nothing is downloaded. Options go to `python -m benchmarks.gpu`.
# Out: a line a step in $OUT/steps.tsv (name, exit code, seconds, last line) before the next one begins, its log beside
# it, benchmarks/results/*.json; last a summary: ok, failed or skipped, and why. Exit code 1 if a step failed.
#
# A step is a process of its own: a broken context or a fault loses that step and no other. A step that needs one that
# failed is skipped. WSOLKERN_GPU_PLAN: a file with other steps.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

readonly python=${PYTHON:-python3}
readonly logs=${OUT:-$(mktemp -d)}
readonly steps=$logs/steps.tsv
readonly options=("$@")
mkdir -p "$logs"
: >"$steps"
declare -A outcome=()
names=()

note() { # NAME OUTCOME EXIT_CODE SECONDS TEXT: for the summary and the JSON
  names+=("$1")
  outcome[$1]="$2${5:+: $5}"
  printf '%s\t%s\t%s\t%s\n' "$1" "$3" "$4" "$5" >>"$steps"
  printf '%4d s  %s: %s\n' "$SECONDS" "$1" "${outcome[$1]}"
}

step() { # NAME SECONDS NEEDS COMMAND...: NEEDS: steps and programs, separated by commas; "-": none
  local name=$1 limit=$2 needs=$3 begun=$SECONDS code=0 need last
  shift 3
  for need in ${needs//,/ }; do
    [[ $need == - ]] && continue
    if [[ -n ${outcome[$need]:-} ]]; then
      [[ ${outcome[$need]} == ok* ]] && continue
      note "$name" skipped - 0 "$need is not ok"
      return
    fi
    command -v "$need" >/dev/null && continue
    note "$name" skipped - 0 "$need is not on PATH"
    return
  done
  timeout --kill-after=5 "$limit" "$@" >"$logs/$name.log" 2>&1 || code=$?
  last=$(grep -v '^[[:space:]]*$' "$logs/$name.log" | tail -n 1 | tr '\t' ' ')
  if ((code == 0)); then
    note "$name" ok 0 $((SECONDS - begun)) "$last"
  elif ((code == 124 || code == 137)); then
    note "$name" failed "$code" $((SECONDS - begun)) "ran longer than $limit s"
  else
    note "$name" failed "$code" $((SECONDS - begun)) "exit code $code, see $logs/$name.log: $last"
  fi
}

plan() {
  local first=("$python" -m benchmarks.gpu_first)
  # Without PyTorch's cache of memory every tensor has an allocation of its own, whose end is known.
  local memcheck=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck
    --target-processes application-only --error-exitcode 9 "${first[@]}")
  local parallel=() each
  "$python" -c 'import xdist' 2>/dev/null && parallel=(-n 8)

  step build 240 - "$python" -m pip install --no-build-isolation --no-deps -e .
  step tree 60 build "${first[@]}" tree
  for each in affine level_image histograms; do
    step "$each" 120 build "${first[@]}" "$each"
  done
  for each in tree affine level_image histograms; do
    step "memcheck_$each" 120 "build,compute-sanitizer" "${memcheck[@]}" "$each"
  done
  step times 120 tree,affine,level_image "$python" -m benchmarks.device_cost --measure
  step tests 240 build "$python" -m pytest -q -m gpu "${parallel[@]}" tests
  step peers 300 build "$python" -m benchmarks.gpu --save --steps "$steps" --seconds 200 "${options[@]}"
  step ncu 120 build,ncu "$python" -m benchmarks.gpu_first ncu "$logs/ncu.txt"
}

if [[ -n ${WSOLKERN_GPU_PLAN:-} ]]; then
  # shellcheck disable=SC1090
  source "$WSOLKERN_GPU_PLAN"
elif arch=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())' 2>/dev/null); then
  export PYTHONUNBUFFERED=1 WSOLKERN_CUDA=1 WSOLKERN_CUDA_ARCHS=$arch
  plan
else
  echo "benchmarks/gpu.sh: $python finds no PyTorch with a CUDA device; there is nothing to measure" >&2
  exit 1
fi

if [[ -n ${OUT:-} ]]; then
  find benchmarks/results -name '*.json' -newer "$logs/build.log" -exec cp {} "$OUT" \; 2>/dev/null
fi
printf '\n%s s in all; logs: %s\n' "$SECONDS" "$logs"
failed=0
for name in "${names[@]}"; do
  printf '%-24s %s\n' "$name" "${outcome[$name]}"
  [[ ${outcome[$name]} == failed* ]] && failed=1
done
exit $failed
