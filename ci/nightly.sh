#!/usr/bin/env bash
# One night: run the suite on a device, add the run to the history, judge it and write the reports.
#
#   ci/nightly.sh ascend310p
#
# From cron:
#   17 1 * * * cd /opt/acceptance && OUT=/var/acceptance/out ci/nightly.sh ascend310p
#
# Environment:
#   OUT              folder of the reports; default: nightly-out
#   TIER             tier to run; default: nightly
#   HISTORY          file of the history; default: the one in site.toml
#   BASELINE         file of the frozen baseline; default: the one in site.toml
#   ACCEPTANCE_SITE  site.toml of this machine
#   RERUN            0: never run a suspect night again; default: 1, run it once more
#   PYTHON           interpreter; default: .venv/bin/python
#
# The exit status is the gate's: 0 green, 1 red, 6 something is missing, 7 inconclusive, 2 unusable input. A gate that
# sees nothing wrong never hides a suite that ended badly or did not run: the status is then the suite's.
set -euo pipefail

device=${1:?usage: ci/nightly.sh DEVICE}
cd "$(dirname "$0")/.."
out=${OUT:-nightly-out}
tier=${TIER:-nightly}
python=${PYTHON:-.venv/bin/python}
stamp=$(date -u +%Y%m%dT%H%M%SZ)

mkdir -p "$out/runs"
# Nobody must take the reports of the night before for those of this one.
rm -f "$out/summary.md" "$out/gate.xml" "$out/junit.xml"

history=()
if [ -n "${HISTORY:-}" ]; then history=(--history "$HISTORY"); fi
baseline=()
if [ -n "${BASELINE:-}" ]; then baseline=(--baseline "$BASELINE"); fi

# Run the suite into the history and judge it; sets suite and gate.
night() {
  local run=$out/runs/$stamp-$$-$1
  suite=0 gate=0
  # The gate judges by the records; the suite's own exit status is compared with its answer below.
  "$python" -m pytest -m "$device" acceptance/ --tier "$tier" --run-dir "$run" \
    "${history[@]}" || suite=$?
  if [ ! -f "$run/run.json" ]; then
    printf '## The night broke: the suite ended with status %s and left no run\n' "$suite" \
      > "$out/summary.md"
    echo "nightly: the suite left no run in $run (exit status $suite)" >&2
    exit $((suite == 0 ? 6 : suite))
  fi
  if [ -f "$run/junit.xml" ]; then cp "$run/junit.xml" "$out/junit.xml"; fi
  "$python" -m harness gate "$run" "${history[@]}" "${baseline[@]}" \
    --markdown "$out/summary.md" --junit "$out/gate.xml" || gate=$?
}

night 1
# A suspect is run again, once: the second run makes it red or clears it, and both stay in the history.
if [ "$gate" -eq 7 ] && [ "${RERUN:-1}" -ne 0 ]; then night 2; fi

# A gate that finds nothing wrong with a suite that ended badly has not seen everything.
if [ "$gate" -eq 0 ] && [ "$suite" -ne 0 ]; then
  printf '\nThe suite ended with status %s, although the gate found nothing.\n' "$suite" \
    >> "$out/summary.md"
  gate=$suite
fi
echo "nightly: suite $suite, gate $gate, reports in $out"
exit "$gate"
