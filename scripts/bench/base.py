#!/usr/bin/env python3
"""Compares the processor time per message with that of an earlier version, in turn: A B A B ….

  scripts/bench/base.py --base PROGRAM              every row
  scripts/bench/base.py --base PROGRAM publish …    some
  scripts/bench/base.py --list                      their names
  scripts/bench/base.py --base PROGRAM --markdown FILE
                                                    writes the table there as well: between the lines
                                                    <!-- base: begin --> and <!-- base: end --> if FILE has them

What counts is user + system time, which is moved least by what else the machine does: of the client from its start to
its end, of the server from when it is ready until it has stopped, so that nothing put off is left out. Each client talks
to the server of its own version, and both versions do the same work. The last line is the verdict; the exit code follows it.

  QMQ_PROGRAM          the program           default: build/release/server/app/qmq
  QMQ_BENCH_ROUNDS     rounds for each row   default: 9, after one that does not count
  TMPDIR               where the data lies
"""

import argparse
import contextlib
import dataclasses
import math
import os
import pathlib
import resource
import shlex
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import compare  # noqa: E402
import ours  # noqa: E402
import rows  # noqa: E402

ROW_LIMIT, ALL_LIMIT = 1.05, 1.03
FLOOD = 3_000_000


@dataclasses.dataclass(frozen=True)
class Row:
    """A job of ours: so many messages, or where a job knows no number so many seconds."""
    name: str
    title: str
    command: str  # As of ours.py, with {messages} or {seconds}.
    messages: int = 0
    seconds: float = 0
    warm: int = 0  # Messages of its own warm-up, which the job does not count but which were sent.

    def options(self, scale):
        filled = self.command.format(messages=max(1, round(self.messages * scale)), seconds=max(0.2, self.seconds * scale))
        return ours.parse_arguments(shlex.split(filled))


@dataclasses.dataclass(frozen=True)
class Used:
    """Processor time of one run in seconds, and its messages."""
    client: float
    server: float
    messages: int

    @property
    def each_ns(self):
        return (self.client + self.server) / self.messages * 1e9


@dataclasses.dataclass(frozen=True)
class Figures:
    """One row's runs of the base and of this version."""
    row: Row
    old: list
    new: list

    @property
    def ratio(self):
        return median_ns(self.new) / median_ns(self.old)

    @property
    def messages(self):
        """How much the row weighs in the sum; the same for both versions."""
        return statistics.median(used.messages for used in self.old)


def median_ns(runs):
    return statistics.median(used.each_ns for used in runs)


def flood(name, title, durability, job, large=False):
    return Row(name, title, rows.ours_command(durability, job, large), FLOOD)


ROWS = [
    flood("publish", "`page_cache`, batches of 64 KiB", "page_cache", "publish --messages {messages}"),
    flood("publish", "`page_cache`, batches of 1 MB", "page_cache", "publish --messages {messages}", large=True),
    flood("publish-fsync", "`fsync`, batches of 64 KiB", "fsync", "publish --messages {messages}"),
    flood("publish-fsync", "`fsync`, batches of 1 MB", "fsync", "publish --messages {messages}", large=True),
    Row("shared-commits", "64 connections, one in flight each, `fsync`",
        "--durability fsync publish --seconds {seconds} --durability fsync --connections 64 --window 1 --inline-callbacks",
        seconds=2),
    Row("consume", "sent, then consumed with an ack for each",
        "--durability page_cache consume --messages {messages} --durability page_cache", 2_000_000),
    flood("both", "at once, batches of 64 KiB", "page_cache", "both --messages {messages}"),
    flood("both", "at once, batches of 1 MB", "page_cache", "both --messages {messages}", large=True),
    Row("latency", "1 k/s, `page_cache`",
        "--durability page_cache latency --seconds {seconds} --durability page_cache --inline-callbacks", seconds=4, warm=500),
    Row("inproc", "in memory: send → handler → ack", "--inproc both --messages {messages}", FLOOD),
    flood("many-subjects", "publish, 10,000 subjects", "page_cache", "publish --messages {messages} --subjects 10000"),
]


def children_seconds():
    """Processor time of all processes that this one has started and seen the end of."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_client(uri, job, program):
    before = children_seconds()
    result = ours.bench(uri, job, client_program=program)
    return children_seconds() - before, result["messages"]


def run(row, options, program):
    if options.inproc:
        client, messages = run_client("inproc:", options.job, program)
        return Used(client, 0, messages + row.warm)
    with ours.Server(options.durability, program) as server:
        ready = server.processor_seconds()
        try:
            client, messages = run_client(server.uri, options.job, program)
        except ours.Failure as failure:
            raise ours.Failure(f"{failure}\nserver: {server.errors()}") from failure
        before = children_seconds()
        server.stop()
        if server.process.returncode != 0:
            raise ours.Failure(f"{program} dev ended with {server.process.returncode}: {server.errors()}")
        return Used(client, children_seconds() - before - ready, messages + row.warm)


def measure(row, base, rounds, warmup, scale, show):
    figures = Figures(row, [], [])
    options = row.options(scale)
    for number in range(-warmup, rounds):
        for label, program, runs in (("base", base, figures.old), ("now", ours.program(), figures.new)):
            os.sync()  # What the run before left to be written shall not be written during this one.
            used = run(row, options, program)
            show(f"{f'round {number + 1}' if number >= 0 else 'warm-up':8} {label:4} {row.name:14} {used.each_ns:>9,.0f} ns: "
                 f"client {used.client:.3f} s, server {used.server:.3f} s, {used.messages:,} messages")
            if number >= 0:
                runs.append(used)
    return figures


def spread(runs):
    each = [used.each_ns for used in runs]
    return f"{statistics.median(each):,.0f} [{min(each):,.0f} .. {max(each):,.0f}]"


def together(measured):
    """Of the sum of all rows, each as often as it was run; and of all rows alike."""
    old, new = (sum(median_ns(runs) * figures.messages for figures, runs in pairs) for pairs in
                ([(figures, figures.old) for figures in measured], [(figures, figures.new) for figures in measured]))
    return new / old, math.exp(statistics.mean(math.log(figures.ratio) for figures in measured))


def markdown(measured, heading, foot):
    lines = [heading, "",
             "| Row | Job | Base, ns: median [least .. most] | Now, ns | Ratio | Client | Server | Reached |",
             "|---|---|---|---|---|---|---|---|"]
    for figures in measured:
        lines.append(f"| `{figures.row.name}` | {figures.row.title} | {spread(figures.old)} | {spread(figures.new)} "
                     f"| {figures.ratio:.3f} x | {part(figures, 'client')} | {part(figures, 'server')} "
                     f"| {'ok' if figures.ratio <= ROW_LIMIT else 'SHORT'} |")
    total, mean = together(measured)
    reached = "ok" if max(total, mean) <= ALL_LIMIT else "SHORT"
    lines += [f"| all together | the time of all of them; the geometric mean of the ratios | | | {total:.3f} x; {mean:.3f} x "
              f"| | | {reached} |", ""]
    return "\n".join(lines + foot) + "\n"


def part(figures, which):
    """Ratio of one side's processor time: where a difference comes from."""
    old, new = (statistics.median(getattr(used, which) / used.messages for used in runs)
                for runs in (figures.old, figures.new))
    return f"{new / old:.3f} x" if old > 0 else ""


def verdict(measured, failed):
    """The last line, and whether all is reached."""
    missed = [f"{row.name} ({row.title}: not measured)" for row in failed]
    missed += [f"{figures.row.name} ({figures.row.title}: {figures.ratio:.3f} x, must ≤ {ROW_LIMIT:.2f} x)"
               for figures in measured if figures.ratio > ROW_LIMIT]
    if not measured:
        return f"processor time per message: missed: {'; '.join(missed)}", False
    total, mean = together(measured)
    if max(total, mean) > ALL_LIMIT:
        missed.append(f"all together (must ≤ {ALL_LIMIT:.2f} x)")
    worst = max(measured, key=lambda figures: figures.ratio)
    text = (f"processor time per message beside the base: {total:.3f} x together, {mean:.3f} x in the mean of {len(measured)} "
            f"rows, at most {worst.ratio:.3f} x ({worst.row.name})")
    return (f"{text}; missed: {'; '.join(missed)}" if missed else text), not missed


def measure_all(chosen, options, show):
    measured, failed = [], []
    for row in chosen:
        show(f"== {row.name}: {row.title}")
        try:
            measured.append(measure(row, options.base, options.rounds, options.warmup, options.scale, show))
            show(f"{spread(measured[-1].old)} became {spread(measured[-1].new)} ns: {measured[-1].ratio:.3f} x")
        except ours.Failure as failure:
            show(str(failure))
            failed.append(row)
    return measured, failed


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="those that rows.py alone has are passed over")
    parser.add_argument("--base", metavar="PROGRAM", help="the qmq of the earlier version")
    parser.add_argument("--base-name", default="the base", help="what to call it")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--markdown", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("QMQ_BENCH_ROUNDS", "9")))
    parser.add_argument("--warmup", type=int, default=1, help="rounds before that, not counted")
    parser.add_argument("--scale", type=float, default=1.0, help="so much of each row's messages and seconds")
    options = parser.parse_args(arguments)
    for name in options.rows:
        if name not in [row.name for row in [*ROWS, *rows.ROWS]]:
            parser.error(f"no row '{name}'; known: {', '.join(dict.fromkeys(row.name for row in ROWS))}")
    if options.rounds < 1:
        parser.error("QMQ_BENCH_ROUNDS is at least 1")
    if not options.list and not options.base:
        parser.error("give the program to compare with: --base PROGRAM")
    return options


BEGIN, END = "<!-- base: begin -->", "<!-- base: end -->"


def main(arguments):
    options = parse_arguments(arguments)
    chosen = [row for row in ROWS if not options.rows or row.name in options.rows]
    if options.list:
        print("\n".join(f"{row.name:<16}{row.title}" for row in chosen))
        return 0
    if not chosen:
        print("processor time per message: no row of these has one that would be compared")
        return 0
    before, load = compare.steal_and_total(), os.getloadavg()[0]
    measured, failed = measure_all(chosen, options, lambda line: print(line, flush=True))
    if measured:
        heading = f"Processor time per message beside {options.base_name}, {options.rounds} rounds:"
        text = markdown(measured, heading, rows.machine(before, load))
        print(f"\n{text}")
        if options.markdown:
            rows.write_markdown(options.markdown, text, BEGIN, END)
    line, reached = verdict(measured, failed)
    print(line.replace("the base", options.base_name, 1))
    return 0 if reached else 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
    sys.exit(130)
