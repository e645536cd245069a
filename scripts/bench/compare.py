#!/usr/bin/env python3
"""Runs commands in turn, A B A B …, and prints their figures side by side as markdown.

Each command prints one line of JSON: {"peer": …, "job": …, "rate": …, "p50_us": …, "p99_us": …,
"messages": …, "settings": …}, as `qmq bench JOB --json` and the peer_NAME clients do. The first command is
ours; it is compared with each of the others. In turn and not one after the other, so that what else the
machine does meanwhile hits all alike; hence also the median of the ratios within a round.

  scripts/bench/compare.py --peer kafka --title 'publish, pipelined' \\
      'build/release/qmq bench publish --json' \\
      'build/release/tests/bench/peers/peer_kafka publish --port {kafka}'

--peer NAME starts that server with scripts/bench/peer for the time of the comparison; {NAME} is its port.
A server that runs already is used as it is, and left running.
"""

import argparse
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys

PEER = pathlib.Path(__file__).resolve().parent / "peer"


class Failure(Exception):
    """What is printed instead of figures."""


def parse_result(text, command):
    """The last line that is a JSON object is the result; programs may print more before it."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                result = json.loads(line)
            except json.JSONDecodeError as error:
                raise Failure(f"{command}: not JSON ({error}): {line}") from error
            missing = {"peer", "job", "rate", "messages", "settings"} - result.keys()
            if missing:
                raise Failure(f"{command}: the result lacks {', '.join(sorted(missing))}: {line}")
            return result
    raise Failure(f"{command}: printed no line of JSON")


def run(command, timeout):
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{command}: no result within {timeout:g} s") from error
    except OSError as error:
        raise Failure(f"{command}: {error}") from error
    if done.returncode != 0:
        raise Failure(f"{command}: ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return parse_result(done.stdout, command)


def interleave(commands, rounds, warmup, timeout, show):
    """A list for each command, of one result for each round."""
    results = [[] for _ in commands]
    for number in range(-warmup, rounds):
        for position, command in enumerate(commands):
            os.sync()  # What the run before left to be written shall not be written during this one.
            result = run(command, timeout)
            label = f"round {number + 1}" if number >= 0 else "warm-up"
            show(f"{label:8} {describe(result)}")
            if number >= 0:
                results[position].append(result)
    return results


def describe(result):
    figures = [f"{result['rate']:>12,.0f}/s"]
    for key in ("p50_us", "p99_us"):
        if result.get(key) is not None:
            figures.append(f"{key[:3]} {result[key]:,.1f} us")
    return f"{result['peer']:<8} {result['job']:<8} " + "  ".join(figures)


def metrics_of(results):
    """What counts for this job: a rate, or where messages are paced how long each took."""
    return ["p50_us", "p99_us"] if results[0]["job"] == "latency" else ["rate"]


def human(value, metric):
    if metric != "rate":
        return f"{value:,.0f} µs"
    for size, unit in ((1e6, "M/s"), (1e3, "k/s")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}/s"


def values_of(results, metric):
    values = [result.get(metric) for result in results]
    if None in values or not all(value > 0 for value in values):
        raise Failure(f"{results[0]['peer']} {results[0]['job']}: no {metric} in every round: {values}")
    return values


def spread(values, metric):
    median, low, high = (human(f(values), metric) for f in (statistics.median, min, max))
    return f"{median} [{low} .. {high}]"


def row(title, metric, ours, theirs):
    """One line of the table: ours against one peer, in one metric."""
    a, b = values_of(ours, metric), values_of(theirs, metric)
    of_medians = statistics.median(a) / statistics.median(b)
    of_pairs = statistics.median(x / y for x, y in zip(a, b))
    what = title if metric == "rate" else f"{title}, {metric[:3]}"
    return (f"| {what} | {ours[0]['peer']} {spread(a, metric)} | {theirs[0]['peer']} {spread(b, metric)} "
            f"| {of_medians:.2f} | {of_pairs:.2f} |")


def table(title, results, metrics=None):
    lines = ["| job | A: median [least .. most] | B | A / B of medians | median of A / B in a round |",
             "|---|---|---|---|---|"]
    ours = results[0]
    for theirs in results[1:]:
        for metric in metrics or metrics_of(ours):
            lines.append(row(title or ours[0]["job"], metric, ours, theirs))
    lines.append("")
    lines += [f"- {each[0]['peer']}: {each[0]['settings']}" for each in results]
    return "\n".join(lines)


class Peers:
    """Servers that this comparison started, and that it stops."""

    def __init__(self, names):
        self.names = names
        self.started = []
        self.ports = {}

    def __enter__(self):
        try:
            for name in self.names:
                self.ports[name] = self.running_port(name) or self.start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *unused):
        for name in self.names:
            done = subprocess.run([PEER, name, "rss"], capture_output=True, text=True)
            print(f"- {name} server: {done.stdout.strip() or done.stderr.strip()}")
        self.stop()

    @staticmethod
    def running_port(name):
        done = subprocess.run([PEER, name, "port"], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    def start(self, name):
        done = subprocess.run([PEER, name, "start"], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"scripts/bench/peer {name} start:\n{done.stderr}")
        self.started.append(name)
        return dict(word.split("=") for word in done.stdout.split())["port"]

    def stop(self):
        for name in reversed(self.started):
            subprocess.run([PEER, name, "stop"], check=False)
        self.started = []


def fill_in(command, ports):
    for name, port in ports.items():
        command = command.replace("{" + name + "}", port)
    return command


def steal_and_total():
    """Clock ticks that other virtual machines took, and all of them; nothing where there is no /proc."""
    try:
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    except OSError:
        return 0, 0
    return fields[7], sum(fields)


def machine_line(before, load):
    steal, total = (now - then for now, then in zip(steal_and_total(), before))
    share = 100 * steal / total if total else 0
    return f"- machine: {os.cpu_count()} cores, load average {load:.2f} at the start, {share:.1f} % stolen"


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="+", metavar="COMMAND", help="ours first, then at least one other")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2, help="rounds before that, not counted")
    parser.add_argument("--peer", action="append", default=[], choices=["nats", "redis", "kafka"])
    parser.add_argument("--title", help="first column of the table; default: the job")
    parser.add_argument("--metric", action="append", choices=["rate", "p50_us", "p99_us"])
    parser.add_argument("--timeout", type=float, default=180, help="seconds for one run")
    options = parser.parse_args(arguments)
    if len(options.commands) < 2:
        parser.error("give at least two commands")
    if options.rounds < 1 or options.warmup < 0:
        parser.error("--rounds is at least 1, --warmup at least 0")
    return options


def main(arguments):
    options = parse_arguments(arguments)
    before, load = steal_and_total(), os.getloadavg()[0]
    try:
        with Peers(options.peer) as peers:
            commands = [fill_in(command, peers.ports) for command in options.commands]
            results = interleave(commands, options.rounds, options.warmup, options.timeout,
                                 lambda line: print(line, flush=True))
            print("\n" + table(options.title, results, options.metric))
            print(machine_line(before, load))
    except Failure as failure:
        print(f"compare: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # So that the servers are stopped then, too.
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
