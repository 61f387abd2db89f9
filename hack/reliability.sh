#!/usr/bin/env bash
# The proofs of docs/reliability.md: hack/reliability.sh [ci | TIME]
#
# ci runs every suite once at the size that the document names. A time such as
# 30m or 8h is shared out among the tests that go on and on until it is over.
set -euo pipefail
cd "$(dirname "$0")/.."
size=${1:-ci}

# In virtual time or on files of their own: two at once disturb nobody.
quiet=(
  "./test/history/... ."
  "./test/memfs ."
  "./test/simulation ."
  "./pkg/channel/disk Crash|Medium|Model|Killed|Damage|Volumes|PowerCuts|Synced|LikeTheReal"
)
# Processes, disks and clocks of this machine: one at a time.
alone=(
  "./pkg/channel/disk LogKeepsUp"
  "./test/e2e KillNine|SIGTERM|FullDisk|DiskFilled|Backup|Doctor"
  "./test/overload ."
  "./test/faults ."
)

# run PACKAGE TESTS: prints what tests say of themselves, and every skip.
run() {
  local out status=0
  out=$(mktemp)
  PENSTOCK_PROOF=$size go test -count=1 -timeout 0 -v -run "$2" "$1" >"$out" 2>&1 || status=$?
  if [ $status -ne 0 ]; then
    cat "$out"
  else
    grep -E '^ +[a-z_]+\.go:[0-9]+: [^ ]|^ {8}(sent|owed|twice|from start|drained)|^ *--- SKIP|^(ok|faults:|overload:)|SKIPPED|skipped' "$out" || true
  fi
  rm -f "$out"
  return $status
}

seconds() { # of a time such as 90s, 30m, 8h
  case $1 in
  *h) echo $((${1%h} * 3600)) ;;
  *m) echo $((${1%m} * 60)) ;;
  *s) echo ${1%s} ;;
  *) echo "TIME is $1: write it as 90s, 30m or 8h" >&2 && exit 2 ;;
  esac
}

if [ "$size" != ci ]; then
  all=$(seconds "$size")
  loops=$(grep -rho 'proof\.Rounds(' --include='*_test.go' pkg test | wc -l)
  size=$((all / loops + 1))s
  echo "each of $loops loops has $size"
fi

failed=()
for suite in "${quiet[@]}" "${alone[@]}"; do
  read -r package tests <<<"$suite"
  start=$SECONDS
  echo "== $package $tests"
  run "$package" "$tests" || failed+=("$package $tests")
  echo "== $package took $((SECONDS - start)) s"
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
