#!/usr/bin/env bash
# refused.sh COMPILER SOURCE FLAG…: compiles SOURCE once for each of its lines
#
#     #if CASE == 1  // error: text
#
# with CASE defined so. Each must fail, with `text` in the first error and few lines in all. With CASE 0 it compiles, so that
# no case fails for another reason.
set -uo pipefail

compiler=$1
source=$2
shift 2
most_lines=15

compile() {
    "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Werror "$@" "$source" 2>&1
}

if ! output=$(compile -DCASE=0 "$@"); then
    printf 'case 0 does not compile:\n%s\n' "$output"
    exit 1
fi

failed=0
cases=0
while IFS=$'\t' read -r number expected; do
    cases=$((cases + 1))
    if output=$(compile "-DCASE=$number" "$@"); then
        printf 'case %s compiles; expected: %s\n' "$number" "$expected"
        failed=1
        continue
    fi
    first=$(grep -m 1 'error: ' <<<"$output")
    lines=$(wc -l <<<"$output")
    if [[ $first != *"$expected"* || $lines -gt $most_lines ]]; then
        printf 'case %s, %s lines; expected: %s\n%s\n' "$number" "$lines" "$expected" "$output"
        failed=1
    fi
done < <(sed -n 's/^#if CASE == \([0-9]*\)  \/\/ error: /\1\t/p' "$source")

if ((cases == 0)); then
    echo "no case in $source"
    exit 1
fi
exit $failed
