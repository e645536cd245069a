# What the scripts share; each begins with: . "$(dirname "$0")/lib/common.sh"
# Expects bash with `set -euo pipefail`.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"

jobs=${QMQ_JOBS:-$(nproc)}
say() { echo "== $*"; }
die() { echo "${0##*/}: $*" >&2; exit 2; }

failed_stages=()
# stage NAME COMMAND…: runs it, prints how long it took, and remembers a failure instead of stopping, so that
# one run tells everything that is wrong. Returns what the command returned.
stage() {
    local name=$1 start=$SECONDS status=0
    shift
    say "$name"
    ("$@") || status=$?
    if [ $status = 0 ]; then
        say "$name: ok, $((SECONDS - start)) s"
    else
        say "$name: FAILED (exit $status), $((SECONDS - start)) s"
        failed_stages+=("$name")
    fi
    return $status
}

# test_stage NAME RESULTS.xml COMMAND…: a stage whose failures are counted from its results. Only a run whose results
# show no failed test, and which failed all the same, counts as a failure of its own.
test_stage() {
    local name=$1 results=$2 failed
    shift 2
    stage "$name" "$@" && return
    read -r _ failed _ < <(count_results "$results")
    [ "$failed" = 0 ] || unset 'failed_stages[-1]'
    return 1
}

# configure PRESET [-D…]
configure() { cmake --preset "$@" >"/tmp/qmq-configure.$$" 2>&1 ||
    { cat "/tmp/qmq-configure.$$" >&2; rm -f "/tmp/qmq-configure.$$"; return 1; }; rm -f "/tmp/qmq-configure.$$"; }

# build PRESET [TARGET…]: quiet unless something is wrong.
build() {
    local preset=$1
    shift
    cmake --build --preset "$preset" -j "$jobs" --target "${@:-all}" -- --quiet
}

# run_tests PRESET RESULTS.xml [CTEST-ARGUMENT…]: prints what did not pass. The results file is removed first, so that
# it never is an old one. QMQ_VERBOSE=1 prints every test.
run_tests() {
    local preset=$1 results=$2
    shift 2
    mkdir -p "$(dirname "$results")" && rm -f "$results"
    ctest --preset "$preset" -j "$jobs" --no-tests=error --output-junit "$results" "$@" </dev/null |
        awk -v all="${QMQ_VERBOSE:-}" 'all || !/^ +Start +[0-9]+: / && !/ Passed +[0-9.]+ sec$/ { print; fflush() }'
}

# count_results RESULTS.xml…: prints "PASSED FAILED SKIPPED". A test that could not be started has failed, whatever
# ctest calls it; a skipped one said so itself. A file that is missing counts nothing.
count_results() {
    local file
    for file in "$@"; do [ ! -f "$file" ] || cat "$file"; done | awk '
        /^\t<testcase / && / status="run"/      { passed++ }
        /^\t<testcase / && / status="fail"/     { failed++ }
        /^\t<testcase / && / status="disabled"/ { skipped++ }
        /^\t<testcase /                         { notrun = / status="notrun"/ }
        /^\t\t<skipped message="/ && notrun     { if (/message="SKIP_/) skipped++; else failed++; notrun = 0 }
        END { print passed + 0, failed + 0, skipped + 0 }'
}

# summary FAILED_CHECKS RESULTS.xml…: prints the last line of a run, and fails unless all is well. FAILED_CHECKS are
# failures that no results file knows of: a build, the format, tidy. Each counts as one.
summary() {
    local extra=$1 passed failed skipped
    shift
    read -r passed failed skipped < <(count_results "$@")
    failed=$((failed + extra))
    local line="$passed passed, $failed failed"
    [ "$skipped" = 0 ] || line+=", $skipped skipped"
    [ "$passed" -gt 0 ] || [ "$failed" -gt 0 ] || echo "No test was run: that is a failure, not a success." >&2
    echo "$line"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
