#!/usr/bin/env python3
"""Runs the tests of tests/sdk_border.txt: each exists and passes, and each sentence that it quotes stands in its header.

  scripts/lib/sdk_border.py BUILD_FOLDER [--table FILE]
  scripts/lib/sdk_border.py --programs [--table FILE]     the targets to build
  scripts/lib/sdk_border.py --open [--table FILE]         the sentences of the headers that no line quotes

Tells of each line what was seen; the last line counts them, and the exit code follows it.
"""

import argparse
import dataclasses
import fnmatch
import pathlib
import re
import subprocess
import sys

import mended

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
HEADERS = {name: TOP / folder / name for name, folder in {
    "client.h": "sdk/client/include/qmq",
    "client_options.h": "sdk/client/include/qmq",
    "log.h": "sdk/core/include/qmq",
    "producer.h": "sdk/client/include/qmq",
    "subscription.h": "sdk/client/include/qmq",
    "handler.h": "sdk/client/include/qmq",
    "pull_consumer.h": "sdk/client/include/qmq",
    "message.h": "sdk/core/include/qmq",
    "consumer.h": "annotations/include/qmq",
    "filter.h": "sdk/client/include/qmq",
    "delivery_context.h": "sdk/client/include/qmq",
    "idempotency.h": "sdk/client/include/qmq",
    "awaitable.h": "sdk/client/include/qmq",
    "tags.h": "sdk/client/include/qmq",
    "testing.h": "sdk/client/include/qmq",
    "version.h": "sdk/core/include/qmq",
}.items()}
FAULTS = range(1, 17)
FAULT = re.compile(r"fault (\d+)")
NO_TEST = "-"
CTEST = "ctest"


@dataclasses.dataclass(frozen=True)
class Line:
    where: str  # "fault N", or a header.
    what: str
    program: str
    tests: str  # Where the program is "-": why there is none.


def read_table(path):
    lines = []
    for number, text in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        if not text.strip() or text.startswith("#"):
            continue
        fields = [field.strip() for field in text.split("|")]
        if len(fields) != 4 or not all(fields):
            raise mended.Failure(f"{path}:{number}: not WHERE | WHAT | PROGRAM | TESTS: {text}")
        line = Line(*fields)
        if line.where not in HEADERS and not FAULT.fullmatch(line.where):
            raise mended.Failure(f"{path}:{number}: neither a fault nor a header: {line.where}")
        lines.append(line)
    for fault in FAULTS:
        if not any(line.where == f"fault {fault}" and line.program != NO_TEST for line in lines):
            raise mended.Failure(f"{path}: fault {fault} has no test")
    return lines


def sentences(path):
    """What the documentation comments of a header say to its users, sentence by sentence."""
    blocks, block, trails, private = [], [], False, False
    for line in [*pathlib.Path(path).read_text().splitlines(), ""]:
        private = not re.match(r"\s*public:|};", line) and (private or "private:" in line)
        if private:
            line = ""
        alone = re.match(r"\s*///(<?) ?(.*)", line)
        behind = None if alone else re.search(r"///< ?(.*)", line)
        if block and (not alone or trails and not alone.group(1)):
            blocks.append(" ".join(block))
            block = []
        if alone:
            trails = bool(alone.group(1))
            block.append(alone.group(2).strip())
        elif behind:
            trails = True
            block.append(behind.group(1).strip())
    found = []
    for text in blocks:
        text = re.sub(r"\s+", " ", text)
        found += [part.strip() for part in re.split(r"(?<=[.!?])\s+(?=[A-Z`]|k[A-Z])", text) if part.strip()]
    return found


def plain(text):
    return re.sub(r"\s+", " ", text).strip()


def quoted(lines):
    """The sentences of each header that a line quotes a part of; a quotation that stands nowhere is a failure."""
    covered, missing = {name: set() for name in HEADERS}, []
    texts = {name: sentences(path) for name, path in HEADERS.items()}
    for line in lines:
        if line.where not in HEADERS:
            continue
        hits = [text for text in texts[line.where] if plain(line.what) in text]
        if not hits:
            missing.append(line)
        covered[line.where].update(hits)
    return texts, covered, missing


class Build:
    """The test programs of a build, each run once with all that is wanted of it."""

    def __init__(self, folder, lines):
        self.folder = folder
        self.wanted = {}
        for line in lines:
            if line.program not in (NO_TEST, CTEST):
                self.wanted.setdefault(line.program, set()).update(line.tests.split(":"))
        self.outcomes = {}

    def outcome(self, program):
        if program not in self.outcomes:
            path = mended.find_program(self.folder, program)
            names = mended.list_tests(path, "*")
            run = [name for name in names if any(matches(name, pattern) for pattern in self.wanted[program])]
            self.outcomes[program] = mended.rest_of_them(path, ":".join(run), "") if run else {}
        return self.outcomes[program]

    def check(self, line):
        """What was seen, or a Failure."""
        if line.program == CTEST:
            return self.check_ctest(line)
        outcome = self.outcome(line.program)
        names = []
        for pattern in line.tests.split(":"):
            hits = [name for name in outcome if matches(name, pattern)]
            if not hits:
                raise mended.Failure(f"no test is called {pattern}")
            names += hits
        bad = [name for name in names if not outcome[name]]
        if bad:
            raise mended.Failure(f"fails: {', '.join(bad)}")
        return f"{len(set(names))} passed"

    def check_ctest(self, line):
        done = subprocess.run(["ctest", "--test-dir", self.folder, "--no-tests=error", "-R", line.tests],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise mended.Failure(f"ctest -R '{line.tests}': {(done.stdout or done.stderr)[-300:]}")
        return f"{len(re.findall(r' Passed ', done.stdout))} passed"


def matches(name, pattern):
    """A test with parameters is named without them, and stands for all of its instances."""
    pattern = pattern.replace("[", "[[]")
    return any(fnmatch.fnmatchcase(name, form) for form in (pattern, f"*/{pattern}/*"))


def check_all(lines, build, show):
    """How many lines hold."""
    held, where = 0, None
    for line in lines:
        if line.program == NO_TEST:
            continue
        if line.where != where:
            where = line.where
            show(f"{where}:")
        try:
            seen = build.check(line)
            held += 1
        except mended.Failure as failure:
            seen = f"NOT HELD: {failure}"
        show(f"  {line.what}\n    {line.program} {line.tests}: {seen}")
    return held


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", metavar="BUILD_FOLDER")
    parser.add_argument("--programs", action="store_true")
    parser.add_argument("--open", action="store_true")
    parser.add_argument("--table", default=str(TOP / "tests/sdk_border.txt"))
    options = parser.parse_args(arguments)
    if not (options.programs or options.open or options.build):
        parser.error("give the folder of a build")
    try:
        lines = read_table(options.table)
        texts, covered, missing = quoted(lines)
    except (mended.Failure, OSError) as failure:
        print(f"sdk-border: {failure}")
        return 1
    if options.programs:
        print("\n".join(sorted({line.program for line in lines} - {NO_TEST, CTEST})))
        return 0
    uncovered = [(name, text) for name in HEADERS for text in texts[name] if text not in covered[name]]
    for line in missing:
        print(f"{line.where} does not say: {line.what}")
    for name, text in uncovered:
        print(f"{name}, no line for: {text}")
    if options.open:
        return 0 if not missing and not uncovered else 1
    tested = [line for line in lines if line.program != NO_TEST]
    held = check_all(lines, Build(options.build, lines), lambda line: print(line, flush=True))
    said = sum(len(texts[name]) for name in HEADERS)
    print(f"{held} of {len(tested)} lines hold; of {said} sentences in {len(HEADERS)} headers {said - len(uncovered)} have a "
          f"line; {len(missing)} lines quote what no header says")
    return 0 if held == len(tested) and not missing and not uncovered else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
