#!/usr/bin/env python3
"""Which lines of some folders a build with --coverage has reached, as gcov counts them.

  scripts/lib/coverage.py BUILD-FOLDER SOURCE-FOLDER…

Run from the project's root after the programs have run. A line counts as reached when any object file that holds it
says so, and a source file of the build that was never entered counts with all its lines. Prints a line for each
file, then "total REACHED of LINES lines, PERCENT %".
"""

import collections
import json
import pathlib
import subprocess
import sys


def notes_of(build):
    """The compiler's notes on each object file; a header's lines may be reached from anywhere."""
    return [path for path in sorted(pathlib.Path(build).rglob("*.gcno")) if "CompilerId" not in path.name]


def gcov(notes):
    done = subprocess.run(["gcov", "--json-format", "--stdout", *map(str, notes)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"coverage: gcov ended with {done.returncode}: {done.stderr[-1000:]}")
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def counts(reports, folders):
    """For each file of the folders, how often each of its lines ran."""
    top = pathlib.Path.cwd()
    files = collections.defaultdict(lambda: collections.defaultdict(int))
    for report in reports:
        directory = pathlib.Path(report["current_working_directory"])
        for file in report["files"]:
            path = (directory / file["file"]).resolve()
            if not path.is_relative_to(top):
                continue
            name = path.relative_to(top).as_posix()
            if not name.startswith(tuple(f"{folder}/" for folder in folders)):
                continue
            for line in file["lines"]:
                files[name][line["line_number"]] += line["count"]
    return files


def print_table(files):
    for name in sorted(files):
        lines = files[name]
        reached = sum(count > 0 for count in lines.values())
        missed = " ".join(str(line) for line in sorted(lines) if lines[line] == 0)
        print(f"{name:<44} {reached:>5} of {len(lines):>5} {100 * reached / len(lines):>6.1f} %"
              f"{'  not: ' + shorten(missed) if missed else ''}")
    total = sum(len(lines) for lines in files.values())
    reached = sum(count > 0 for lines in files.values() for count in lines.values())
    print(f"total {reached} of {total} lines, {100 * reached / total:.1f} %")


def shorten(text, most=90):
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"


def main(arguments):
    if len(arguments) < 2:
        sys.exit(__doc__)
    build, folders = arguments[0], [folder.rstrip("/") for folder in arguments[1:]]
    notes = notes_of(build)
    if not notes:
        sys.exit(f"coverage: no .gcno file below {build}: was it built with --coverage?")
    files = counts(gcov(notes), folders)
    if not files:
        sys.exit("coverage: gcov knows no line of " + ", ".join(folders))
    print_table(files)


if __name__ == "__main__":
    main(sys.argv[1:])
