# What the shows share; each begins with: . "$(dirname "$0")/../lib/show.sh"
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

show_name=${0##*/}
show_start=$SECONDS
pass() { echo "PASS $show_name: $* ($((SECONDS - show_start)) s)"; exit 0; }
fail() { echo "FAIL $show_name: $* ($((SECONDS - show_start)) s)"; exit 1; }
# Anything that goes wrong unforeseen is a failure with a verdict too.
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
set -E
