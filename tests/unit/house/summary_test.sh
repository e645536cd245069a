#!/usr/bin/env bash
# The last line of scripts/test is what people and machines believe: it is held against results of every kind.
set -euo pipefail
. "$(dirname "$0")/../../../scripts/lib/common.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
cat >"$work/tree/CTestTestfile.cmake" <<'END'
add_test(passes true)
add_test(passes_too sh -c "echo '\t<testcase name=\"x\" status=\"fail\"'")
add_test(fails false)
add_test(crashes sh -c "kill -SEGV $$")
add_test(cannot_start /nonexistent)
add_test(skips sh -c "exit 77")
set_tests_properties(skips PROPERTIES SKIP_RETURN_CODE 77)
add_test(is_disabled true)
set_tests_properties(is_disabled PROPERTIES DISABLED 1)
END
run() { # NAME REGEX
    (cd "$work/tree" && ctest --output-junit "$work/$1.xml" -R "$2") >/dev/null 2>&1 || true
}
expect() { # STATUS LINE EXTRA RESULTS…
    local status=0 line
    line=$(summary "${@:3}" 2>/dev/null) || status=$?
    [ "$line" = "$2" ] && [ $((status != 0)) = "$1" ] ||
        { echo "expected '$2' and $1, got '$line' and $status, for: ${*:3}"; exit 1; }
}
run all .
run good passes
run none no_such_test
expect 1 "2 passed, 3 failed, 2 skipped" 0 "$work/all.xml"
expect 0 "2 passed, 0 failed" 0 "$work/good.xml"
expect 0 "4 passed, 0 failed" 0 "$work/good.xml" "$work/good.xml"
expect 1 "2 passed, 1 failed" 1 "$work/good.xml"       # a stage that is not a test has failed
expect 1 "0 passed, 0 failed" 0 "$work/none.xml"       # no test at all is no success
expect 1 "0 passed, 0 failed" 0 "$work/missing.xml"    # nor is a run that wrote no results
expect 1 "0 passed, 1 failed" 1 "$work/missing.xml"
echo "ok"
