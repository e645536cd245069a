#!/usr/bin/env python3
"""Starts `qmq dev` on a private directory, runs one `qmq bench` job against it, stops it and removes its data.

  scripts/bench/ours.py [--durability fsync] JOB [option of qmq bench]…
  scripts/bench/ours.py --inproc JOB …    the server inside the client's process, in memory

Prints the line of JSON that `qmq bench --json` prints; the server's durability and its memory are added to the
settings.

  QMQ_PROGRAM   the program      default: build/release/server/app/qmq
  TMPDIR        where the data lies: the disk that is measured
"""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


class Failure(Exception):
    """What is printed instead of figures."""


def program():
    return os.environ.get("QMQ_PROGRAM", str(TOP / "build/release/server/app/qmq"))


def die_with_parent():
    """In the child: a driver that is killed leaves no server behind."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Server:
    """A `qmq dev` of our own on a free port; stopped, and its data removed, on leaving the block."""

    def __init__(self, durability, server_program=None):
        self.program = server_program or program()
        self.durability = durability
        self.directory = None
        self.process = None
        self.uri = None

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="qmq-bench.")
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def start(self):
        command = [self.program, "dev", "--data", f"{self.directory}/data", "--port", "0", "--durability", self.durability]
        with open(f"{self.directory}/stderr", "ab") as errors:
            try:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                                stderr=errors, text=True, preexec_fn=die_with_parent)
            except OSError as error:
                raise Failure(f"{command[0]}: {error}") from error
        for line in self.process.stdout:
            found = re.search(r"grpcs?://\S+", line)
            self.uri = self.uri or (found and found.group())
            if line.startswith("ready"):
                return
        raise Failure(f"qmq dev ended with {self.process.wait()} before it was ready: {self.errors()}")

    def errors(self):
        return pathlib.Path(f"{self.directory}/stderr").read_text(errors="replace")[-2000:]

    def memory_mb(self):
        """Resident now, and the most so far, in megabytes of 10^6 bytes."""
        fields = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", self.status(), re.MULTILINE))
        return int(fields["VmRSS"]) * 1024 / 1e6, int(fields["VmHWM"]) * 1024 / 1e6

    def status(self):
        return pathlib.Path(f"/proc/{self.process.pid}/status").read_text()

    def processor_seconds(self):
        """User and system time of all its threads so far, exact: /proc/PID/stat counts in ticks of 10 ms."""
        cpuclock_sched = 2
        return time.clock_gettime((~self.process.pid << 3) | cpuclock_sched)

    def __exit__(self, *unused):
        self.stop()
        self.remove()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def remove(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        shutil.rmtree(self.directory, ignore_errors=True)


def bench(uri, arguments, timeout=150, client_program=None):
    """The result of `qmq bench ARGUMENTS` as a dictionary."""
    command = [client_program or program(), "bench", *arguments, "--uri", uri, "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{' '.join(command)}: no result within {timeout} s") from error
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: ended with {done.returncode}: {done.stderr[-2000:]}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as error:
        raise Failure(f"{' '.join(command)}: printed no JSON: {done.stdout[-500:]}") from error


def run(options):
    if options.inproc:
        return bench("inproc:", options.job)
    with Server(options.durability) as server:
        try:
            result = bench(server.uri, options.job)
        except Failure as failure:
            raise Failure(f"{failure}\nserver: {server.errors()}") from failure
        resident, peak = server.memory_mb()
        result["settings"] += (f"; server: qmq dev --durability {options.durability}, "
                               f"{resident:.0f} MB resident afterwards, peak {peak:.0f}")
        return result


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--durability", default="fsync")
    parser.add_argument("--inproc", action="store_true")
    parser.add_argument("job", nargs=argparse.REMAINDER, help="job and options of qmq bench")
    options = parser.parse_args(arguments)
    if not options.job:
        parser.error("give a job: publish, consume, both or latency")
    return options


def main(arguments):
    options = parse_arguments(arguments)
    try:
        print(json.dumps(run(options)))
    except Failure as failure:
        print(f"ours: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
    sys.exit(130)
