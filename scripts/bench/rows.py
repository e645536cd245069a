#!/usr/bin/env python3
"""Measures the rows of the table in docs/benchmarks.md, each beside the system it is compared with.

  scripts/bench/rows.py                       every row
  scripts/bench/rows.py publish consume       some
  scripts/bench/rows.py --list                their names
  scripts/bench/rows.py --markdown FILE       writes the table there as well: between the lines
                                              <!-- figures: begin --> and <!-- figures: end --> if FILE has them

Ours and the others run in turn, A B A B …, on a machine with nothing else to do; a ratio is the median of the
ratios within a round. The last line says which rows miss what they must reach; the exit code follows it.

  QMQ_BENCH_RUNS   rounds for each row   default: 5
  TMPDIR           the disk that is measured
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import typing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import compare  # noqa: E402
import ours  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("QMQ_BENCH_BUILD", TOP / "build/release"))
OURS = str(TOP / "scripts/bench/ours.py")
TIMEOUT = 180
BACKLOG = 1_000_000


@dataclasses.dataclass(frozen=True)
class Limit:
    """What a figure must reach, and what we are after. None: nothing is asked of it."""
    must: typing.Optional[float] = None
    aim: typing.Optional[float] = None
    more_is_better: bool = True
    unit: str = "x"

    def reached(self, value):
        if self.must is None and self.aim is None:
            return "for comparison"
        if self.aim is not None and self.beats(value, self.aim):
            return "ok, and the aim"
        if self.must is None:
            return "short of the aim"
        return "ok" if self.beats(value, self.must) else "SHORT"

    def beats(self, value, bound):
        return value >= bound if self.more_is_better else value <= bound

    def text(self, bound):
        if bound is None:
            return ""
        return f"{'≥' if self.more_is_better else '≤'} {figure(bound, self.unit)}"


def figure(value, unit):
    if unit == "/s":
        return compare.human(value, "rate")
    if unit == "x":
        return f"{value:.2f} x"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table."""
    job: str
    ours: str
    beside: str
    value: str
    must: str
    aim: str
    reached: str

    @property
    def missed(self):
        return self.reached == "SHORT" or self.reached.startswith("not measured")


@dataclasses.dataclass
class Outcome:
    """What a row found: its lines, and what is to be told with them."""
    lines: list
    settings: list


@dataclasses.dataclass(frozen=True)
class Against:
    """What runs beside ours. `peer` is a server of scripts/bench/peer, or None. With `mine` it is not compared with
    the row's own command but with this one of ours, which takes its turn right before it."""
    command: str
    label: str
    peer: typing.Optional[str] = None
    mine: typing.Optional[str] = None
    limits: typing.Mapping[str, Limit] = dataclasses.field(default_factory=lambda: {"rate": Limit()})
    variant: str = ""  # What is different from the row's title.


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row whose commands take turns."""
    name: str
    title: str
    ours: str
    against: typing.Sequence[Against]
    warmup: int = 1

    def measure(self, rounds, show):
        with contextlib.ExitStack() as stack:
            running, lines = [], []
            for each in self.against:
                try:
                    check_built(each.command)
                    ports = stack.enter_context(compare.Peers([each.peer] if each.peer else [])).ports
                    running.append((each, compare.fill_in(each.command, ports)))
                except compare.Failure as failure:
                    show(str(failure))
                    lines += not_measured(self.title, each, failure)
            if not running:
                return Outcome(lines, [])
            commands = [f"{OURS} {self.ours}"]
            for each, command in running:
                commands += [f"{OURS} {each.mine}", command] if each.mine else [command]
            results = compare.interleave(commands, rounds, self.warmup, TIMEOUT, show)
        settings = [f"QMQ: {results[0][-1]['settings']}"]
        rest = iter(results[1:])
        for each, _ in running:
            mine, theirs = (next(rest) if each.mine else results[0]), next(rest)
            lines += [ratio_line(f"{self.title}{each.variant}", metric, limit, mine, theirs, each.label)
                      for metric, limit in each.limits.items()]
            settings += [f"QMQ: {mine[-1]['settings']}"] if each.mine else []
            settings.append(f"{each.label}: {theirs[-1]['settings']}")
        return Outcome(lines, settings)


def check_built(command):
    program = shlex.split(command)[0]
    if not shutil.which(program):
        raise compare.Failure(f"{os.path.relpath(program, TOP)} is not built; was its library there at configure? See "
                              "scripts/install-deps --for bench")


def ratio_line(title, metric, limit, mine, theirs, label):
    a, b = compare.values_of(mine, metric), compare.values_of(theirs, metric)
    ratio = statistics.median(x / y for x, y in zip(a, b))
    job = title if metric == "rate" else f"{title}, {metric[:3]}"
    return Line(job, compare.spread(a, metric), f"{label} {compare.spread(b, metric)}", figure(ratio, "x"),
                limit.text(limit.must), limit.text(limit.aim), limit.reached(ratio))


def not_measured(title, against, failure):
    reason = f"not measured: {str(failure).strip().splitlines()[-1]}"
    for metric, limit in against.limits.items():
        if limit.must is None and limit.aim is None:
            continue
        job = f"{title}{against.variant}" if metric == "rate" else f"{title}{against.variant}, {metric[:3]}"
        yield Line(job, "", against.label, "", limit.text(limit.must), limit.text(limit.aim), reason)


def plain_line(title, values, limit):
    value = statistics.median(values)
    low, high = figure(min(values), limit.unit), figure(max(values), limit.unit)
    return Line(title, f"{figure(value, limit.unit)} [{low} .. {high}]", "", figure(value, limit.unit),
                limit.text(limit.must), limit.text(limit.aim), limit.reached(value))


@dataclasses.dataclass(frozen=True)
class Alone:
    """A row of ours alone."""
    name: str
    title: str
    measure_with: typing.Callable

    def measure(self, rounds, show):
        return self.measure_with(self.title, rounds, show)


def in_process(title, rounds, show):
    command = f"{OURS} --inproc both --seconds 3"
    results = compare.interleave([command], rounds, 1, TIMEOUT, show)[0]
    limit = Limit(1.5e6, 4e6, unit="/s")
    return Outcome([plain_line(title, compare.values_of(results, "rate"), limit)], [f"QMQ: {results[-1]['settings']}"])


def memory(title, rounds, show):
    """A group that has taken one message and lags by the rest makes it a backlog."""
    idle, backlog, peaks = [], [], []
    for number in range(min(rounds, 3)):
        with ours.Server("fsync") as server:
            idle.append(server.memory_mb()[0])
            ours.bench(server.uri, ["publish", "--messages", str(BACKLOG)])
            after_sends = server.memory_mb()[0]
            subject = only_subject(server.uri)
            qmq("tail", "--uri", server.uri, "--group", "backlog", "--from-start", "--count", "1", subject)
            backlog.append(max(after_sends, server.memory_mb()[0]))
            peaks.append(server.memory_mb()[1])
        show(f"round {number + 1}  idle {idle[-1]:.1f} MB, with a backlog {backlog[-1]:.1f} MB, peak {peaks[-1]:.1f} MB")
    limits = (Limit(25, 20, False, "MB"), Limit(120, 60, False, "MB"))
    return Outcome([plain_line(f"{title}, idle", idle, limits[0]),
                    plain_line(f"{title}, with a backlog of 1 M", backlog, limits[1])],
                   [f"QMQ: qmq dev (fsync); resident is VmRSS, 1 MB = 10^6 bytes; the higher of right after 1 M sends and "
                    f"with a group that lags by them; peak {max(peaks):.0f} MB"])


def qmq(*arguments):
    command = [ours.program(), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ours.Failure(f"{shlex.join(command)}: {error}") from error
    if done.returncode != 0:
        raise ours.Failure(f"{shlex.join(command)}: ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


def only_subject(uri):
    names = [line.split()[0] for line in qmq("tools", "subjects", "--uri", uri).splitlines()[1:]]
    names = [name for name in names if name.startswith("bench.")]
    if len(names) != 1:
        raise ours.Failure(f"expected the one subject of qmq bench, found {names}")
    return names[0]


def restart(title, rounds, show):
    directory = tempfile.mkdtemp(prefix="qmq-bench.")
    command = [str(BUILD / "tests/bench/bench_restart"), "--program", ours.program(), "--data", f"{directory}/data",
               "--gib", "2", "--runs", str(rounds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ours.Failure(f"{shlex.join(command)}: {error}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    show(done.stderr.strip())
    if done.returncode != 0:
        raise ours.Failure(f"{shlex.join(command)}: ended with {done.returncode}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    limit = Limit(2000, 500, False, "ms")
    line = Line(title, f"{result['acked']} (a send persisted: {result['persisted']})", "",
                figure(result["acked_ms"], "ms"), limit.text(limit.must), limit.text(limit.aim),
                limit.reached(result["acked_ms"]))
    return Outcome([line], [f"QMQ: {result['settings']}; {result['messages']:,} messages, "
                            f"{result['log_bytes'] / 2**30:.2f} GiB of files"])


def client(name, job):
    return f"{BUILD}/tests/bench/peers/peer_{name} {job} --port {{{name}}}"


def ours_command(durability, job, large=False):
    batch_bytes, linger_us = (1_000_000, 5_000) if large else (65_536, 1_000)
    return f"--durability {durability} {job} --durability {durability} --batch-bytes {batch_bytes} --linger-us {linger_us}"


def beside_kafka(name, title, durability, job, label, limit):
    """Both with the linger and the largest batch that are our default, and both with those that suit Kafka best."""
    small = client("kafka", job) + " --set linger.ms=1 --set batch.size=65536"
    large = client("kafka", job) + " --set linger.ms=5 --set batch.size=1000000"
    return Comparison(name, title, ours_command(durability, job), [
        Against(small, label, "kafka", None, {"rate": limit}, ", batches of 64 KiB, linger 1 ms"),
        Against(large, label, "kafka", ours_command(durability, job, large=True), {"rate": limit},
                ", batches of 1 MB, linger 5 ms")])


ROWS = [
    beside_kafka("publish", "publish, pipelined, `page_cache`", "page_cache", "publish --seconds 3", "Kafka",
                 Limit(1.5, 4)),
    beside_kafka("publish-fsync", "publish, pipelined, `fsync`", "fsync", "publish --seconds 3", "Kafka *without* fsync",
                 Limit(1.0, 2)),
    Comparison("shared-commits", "publish, 64 connections, one in flight each, `fsync`",
               "--durability fsync publish --seconds 3 --durability fsync --connections 64 --window 1 --inline-callbacks", [
        Against(f"{BUILD}/tests/bench/fdatasync_rate {shlex.quote(tempfile.gettempdir())}", "single fdatasyncs",
                limits={"rate": Limit(5, 20)})]),
    Comparison("consume", "consume, an ack for each, backlog of 1 M",
               f"--durability page_cache consume --messages {BACKLOG} --durability page_cache", [
        Against(client("nats", f"consume --messages {BACKLOG}"), "NATS push", "nats", limits={"rate": Limit(2)}),
        Against(client("kafka", f"consume --messages {BACKLOG}"), "Kafka *without* acks", "kafka",
                limits={"rate": Limit(None, 1.0)})]),
    beside_kafka("both", "publish and consume (ack each) at once", "page_cache", "both --seconds 3",
                 "Kafka *without* acks", Limit(1.5, 3)),
    Comparison("latency", "send → handler, 1 k/s, `page_cache`",
               "--durability page_cache latency --seconds 5 --durability page_cache --inline-callbacks", [
        Against(client("nats", "latency --seconds 5"), "NATS", "nats",
                limits={"p50_us": Limit(1.5, 1.0, False), "p99_us": Limit(2.0, 1.0, False)})]),
    Alone("inproc", "`inproc:` in memory: send → handler → ack", in_process),
    Alone("memory", "`qmq dev`, resident", memory),
    Alone("restart", "start to first ack after kill -9, 2 GiB of log", restart),
    Comparison("many-subjects", "publish with 10,000 subjects, against 1",
               ours_command("page_cache", "publish --seconds 3 --subjects 10000"), [
        Against(f"{OURS} {ours_command('page_cache', 'publish --seconds 3')}", "1 subject",
                limits={"rate": Limit(0.7, 0.9)})]),
]


def cpu_model():
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def output_of(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=TOP)
    except OSError:
        return "unknown"
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else "unknown"


def machine(before, load):
    """What the figures were taken on, for the table's foot."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    disk = output_of("findmnt", "-n", "-o", "SOURCE,FSTYPE", "-T", tempfile.gettempdir())
    return [f"- processor: {cpu_model()}, {os.cpu_count()} cores; memory: {memory_bytes / 2**30:.0f} GiB; "
            f"disk of {tempfile.gettempdir()}: {disk}",
            f"- system: Linux {platform.release()}; compiler: {output_of('g++', '--version')}; commit: "
            f"{output_of('git', 'rev-parse', '--short', 'HEAD')}",
            compare.machine_line(before, load)]


HEADER = ["| Row | Job | QMQ: median [least .. most] | Beside it | Ratio or figure | Must | Aim | Reached |",
          "|---|---|---|---|---|---|---|---|"]


def markdown(outcomes, foot):
    text = list(HEADER)
    for row, outcome in outcomes:
        text += [f"| `{row.name}` | {line.job} | {line.ours} | {line.beside} | {line.value} | {line.must} | {line.aim} "
                 f"| {line.reached} |" for line in outcome.lines]
    text += ["", "Settings:", ""]
    for row, outcome in outcomes:
        text += [f"- `{row.name}`: {setting}" for setting in outcome.settings]
    return "\n".join(text + ["", "Machine:", ""] + foot) + "\n"


BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def write_markdown(path, text, begin=BEGIN, end=END):
    path = pathlib.Path(path)
    old = path.read_text() if path.exists() else ""
    if begin in old and end in old:
        head, rest = old.split(begin, 1)
        text = f"{head}{begin}\n{text}{end}{rest.split(end, 1)[1]}"
    path.write_text(text)


def measure(row, rounds, show):
    show(f"== {row.name}: {row.title}")
    try:
        outcome = row.measure(rounds, show)
    except (compare.Failure, ours.Failure) as failure:
        show(str(failure))
        reason = str(failure).strip().splitlines()[0]
        outcome = Outcome([Line(row.title, "", "", "", "", "", f"not measured: {reason}")], [])
    for line in outcome.lines:
        show("  ".join(part for part in (line.job, line.ours, line.beside, line.value,
                                         line.must and f"must {line.must}", line.aim and f"aim {line.aim}",
                                         line.reached) if part))
    for setting in outcome.settings:
        show(f"  {setting}")
    return outcome


def verdict(outcomes):
    """The last line, and whether all is reached."""
    lines = [(row, line) for row, outcome in outcomes for line in outcome.lines]
    asked = [(row, line) for row, line in lines if line.must or line.missed]
    missed = [f"{row.name} ({line.job}: {line.reached if line.reached != 'SHORT' else line.value + ', must ' + line.must})"
              for row, line in asked if line.missed]
    aims = [line for _, line in lines if line.aim]
    reached = sum(line.reached == "ok, and the aim" for line in aims)
    text = f"{len(asked) - len(missed)} of {len(asked)} musts reached, {reached} of {len(aims)} aims"
    return (f"{text}; missed: {'; '.join(missed)}" if missed else text), not missed


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--markdown", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("QMQ_BENCH_RUNS", "5")))
    options = parser.parse_args(arguments)
    known = [row.name for row in ROWS]
    for name in options.rows:
        if name not in known:
            parser.error(f"no row '{name}'; known: {', '.join(known)}")
    if options.rounds < 1:
        parser.error("QMQ_BENCH_RUNS is at least 1")
    return options


def main(arguments):
    options = parse_arguments(arguments)
    chosen = [row for row in ROWS if not options.rows or row.name in options.rows]
    if options.list:
        print("\n".join(f"{row.name:<16}{row.title}" for row in chosen))
        return 0
    before, load = compare.steal_and_total(), os.getloadavg()[0]
    outcomes = [(row, measure(row, options.rounds, lambda line: print(line, flush=True))) for row in chosen]
    text = markdown(outcomes, machine(before, load))
    print(f"\n{text}")
    if options.markdown:
        write_markdown(options.markdown, text)
    line, reached = verdict(outcomes)
    print(line)
    return 0 if reached else 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
    sys.exit(130)
