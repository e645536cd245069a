#!/usr/bin/env python3
"""Holds the code of docs/guide against the samples that it is taken from.

    excerpts.py              names each block that differs, and exits with 1
    excerpts.py --write      puts the samples' lines in

A block that follows `<!-- excerpt: FILE NAME -->` is what stands in FILE between `// excerpt: NAME` and `// end`, moved to
the left margin.
"""
import pathlib
import re
import sys
import textwrap

TOP = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- excerpt: (\S+) (\S+) -->\n```cpp\n)(.*?)(```\n)", re.DOTALL)


def excerpt(text, name):
    """The lines of `name` in a source, or None."""
    found = re.search(rf"^ *// excerpt: {re.escape(name)}\n(.*?)^ *// end\n", text, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(found.group(1)) if found else None


def with_excerpts(page, read):
    """`page` with each block as its source has it, and what was wrong. `read` gives a file's text, or None."""
    problems = []

    def block(match):
        head, path, name, old, tail = match.groups()
        text = read(path)
        new = excerpt(text, name) if text is not None else None
        if new is None:
            problems.append(f"{path} has no excerpt '{name}'")
            return match.group(0)
        if new != old:
            problems.append(f"'{name}' of {path} differs: scripts/lib/excerpts.py --write")
        return head + new + tail

    written = BLOCK.sub(block, page)
    for _ in range(page.count("<!-- excerpt:") - len(BLOCK.findall(page))):
        problems.append("an excerpt mark without a block of C++ below it")
    return written, problems


def main(arguments):
    def read(path):
        file = TOP / path
        return file.read_text() if file.is_file() else None

    failed = False
    for page in sorted(TOP.glob("docs/**/*.md")):
        old = page.read_text()
        new, problems = with_excerpts(old, read)
        if arguments == ["--write"] and new != old:
            page.write_text(new)
            _, problems = with_excerpts(new, read)
        for problem in problems:
            print(f"{page.relative_to(TOP)}: {problem}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
