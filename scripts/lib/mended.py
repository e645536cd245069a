#!/usr/bin/env python3
"""Runs the tests of tests/mended.txt: each passes, and fails once its fault is switched on again.

  scripts/lib/mended.py BUILD_FOLDER [--table FILE]
  scripts/lib/mended.py --programs [--table FILE]      the targets to build

Tells of each fault what was seen; the last line counts them, and the exit code follows it.
"""

import argparse
import dataclasses
import fnmatch
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
TIMEOUT = 120
NOT_FOUND_YET = "?"


class Failure(Exception):
    """Why a fault is not shown to be mended."""


@dataclasses.dataclass(frozen=True)
class Fault:
    promise: str
    what: str
    switch: str  # Empty: there is none.
    program: str
    tests: str


def read_table(path):
    faults = []
    for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 5 or not all(fields):
            raise Failure(f"{path}:{number}: not PROMISE | WHAT WAS WRONG | SWITCH | PROGRAM | TESTS: {line}")
        promise, what, switch, program, tests = fields
        faults.append(Fault(promise, what, "" if switch == "-" else switch, program, tests))
    if not faults:
        raise Failure(f"{path}: there is no fault in it")
    return faults


def find_program(build, name):
    found = [path for path in (pathlib.Path(build) / "tests").rglob(name) if path.is_file() and os.access(path, os.X_OK)]
    if len(found) != 1:
        raise Failure(f"{name}: {len(found)} programs of that name below {build}/tests")
    return found[0]


def run(program, tests, switch):
    """For each test that was begun, whether it passed. A test that hung or ended its program has not."""
    environment = {key: value for key, value in os.environ.items() if key != "QMQ_PLANT"}
    if switch:
        environment["QMQ_PLANT"] = switch
    command = [str(program), f"--gtest_filter={tests}", "--gtest_color=no"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              errors="replace", timeout=TIMEOUT, env=environment)
        output, code, errors = done.stdout, done.returncode, done.stderr
    except subprocess.TimeoutExpired as error:
        output, code, errors = (error.stdout or b"").decode(errors="replace"), None, ""
    # A test may leave half a line of its own behind, hence not only at the beginning of one.
    begun = re.findall(r"\[ RUN      \] (\S+)$", output, re.MULTILINE)
    passed = set(re.findall(r"\[       OK \] (\S+) \(", output))
    if not begun:
        raise Failure(f"no test was run (exit {code}): {(errors.strip() or output.strip())[:300]}")
    if code == 0 and passed != set(begun):
        raise Failure(f"skipped, or not understood: {', '.join(sorted(set(begun) - passed))}")
    return {name: name in passed for name in begun}


def rest_of_them(program, tests, switch):
    """As run, but where a test ended the program, those behind it have their turn too."""
    outcome = run(program, tests, switch)
    wanted = list_tests(program, tests)
    for name in wanted:
        if name not in outcome:
            outcome.update(run(program, name, switch))
    return outcome


def list_tests(program, tests):
    """The names that the filter lets through; each pattern of it must match one."""
    done = subprocess.run([str(program), f"--gtest_filter={tests}", "--gtest_list_tests"], capture_output=True, text=True)
    names, suite = [], ""
    for line in done.stdout.splitlines():
        word = line.split("#")[0].rstrip()
        if line.startswith("  "):
            names.append(suite + word.strip())
        else:
            suite = word
    for pattern in tests.split("-")[0].split(":"):
        if not fnmatch.filter(names, pattern.replace("[", "[[]")):
            raise Failure(f"no test is called {pattern}")
    return names


def check(fault, build):
    """What was seen, or a Failure."""
    if fault.tests == NOT_FOUND_YET:
        raise Failure("no test is named")
    program = find_program(build, fault.program)
    names = list_tests(program, fault.tests)
    bad = [name for name, passed in rest_of_them(program, fault.tests, "").items() if not passed]
    if bad:
        raise Failure(f"fails: {', '.join(bad)}")
    if not fault.switch:
        return f"{len(names)} passed"
    blind = [name for name, passed in rest_of_them(program, fault.tests, fault.switch).items() if passed]
    if blind:
        raise Failure(f"passes with {fault.switch} switched on: {', '.join(blind)}")
    return f"{len(names)} passed, and failed with {fault.switch}"


def check_all(faults, build, show):
    """The faults that are held."""
    held, promise = [], None
    for fault in faults:
        if fault.promise != promise:
            promise = fault.promise
            show(f"{promise}:")
        try:
            seen = check(fault, build)
            held.append(fault)
        except Failure as failure:
            seen = f"NOT HELD: {failure}"
        show(f"  {fault.what}\n    {fault.program} {fault.tests}: {seen}")
    return held


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", metavar="BUILD_FOLDER")
    parser.add_argument("--programs", action="store_true")
    parser.add_argument("--table", default=str(TOP / "tests/mended.txt"))
    options = parser.parse_args(arguments)
    if not options.programs and not options.build:
        parser.error("give the folder of a build with planted bugs")
    try:
        faults = read_table(options.table)
    except (Failure, OSError) as failure:
        print(f"mended: {failure}")
        return 1
    if options.programs:
        print("\n".join(sorted({fault.program for fault in faults})))
        return 0
    held = check_all(faults, options.build, lambda line: print(line, flush=True))
    switched = sum(bool(fault.switch) for fault in held)
    print(f"{len(held)} of {len(faults)} faults are held mended by their tests; with the old behaviour switched on they fail "
          f"for {switched} of {sum(bool(fault.switch) for fault in faults)}")
    return 0 if len(held) == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
