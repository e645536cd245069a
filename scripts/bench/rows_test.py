#!/usr/bin/env python3
"""Tests of rows.py and ours.py with a made-up qmq and made-up peers."""

import contextlib
import io
import json
import os
import pathlib
import shlex
import stat
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import compare  # noqa: E402
import ours  # noqa: E402
import rows  # noqa: E402

# A server that is ready at once and ends well on SIGTERM; a client that prints a figure.
QMQ = """#!/usr/bin/env python3
import json, pathlib, signal, sys
command = sys.argv[1]
if command == "dev":
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(0))
    data = pathlib.Path(sys.argv[sys.argv.index("--data") + 1])
    data.mkdir()
    if "{mood}" == "broken":
        sys.exit("qmq: cannot start: the disk is full")
    (data / "log").write_text("x")
    (data.parent.parent / "served").open("a").write(str(data) + "\\n")
    print("gRPC     grpc://127.0.0.1:1234")
    print("ready after 1 ms", flush=True)
    signal.pause()
elif command == "bench":
    if "{mood}" == "refusing":
        sys.exit("qmq: no connection")
    print(json.dumps({{"peer": "qmq", "job": sys.argv[2], "rate": {rate}, "p50_us": 50.0, "p99_us": 90.0,
                      "messages": 7, "settings": " ".join(sys.argv[2:])}}))
elif command == "tools":
    print("SUBJECT OLDEST NEXT\\nbench.1 0 1000000")
"""


class RowsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.program = self.folder / "qmq"
        self.write_program()
        self.set_environment("QMQ_PROGRAM", str(self.program))
        self.set_environment("TMPDIR", str(self.folder))
        tempfile.tempdir = None
        self.shown = []

    def tearDown(self):
        tempfile.tempdir = None

    def set_environment(self, name, value):
        before = os.environ.get(name)
        os.environ[name] = value
        self.addCleanup(lambda: os.environ.pop(name) if before is None else os.environ.__setitem__(name, before))

    def write_program(self, rate=2000.0, mood="well"):
        self.program.write_text(QMQ.format(rate=rate, mood=mood))
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def peer(self, rate, job="publish"):
        text = json.dumps({"peer": "other", "job": job, "rate": rate, "p50_us": 100.0, "p99_us": 30.0, "messages": 1,
                           "settings": "its settings"})
        return f"echo {shlex.quote(text)}"

    def comparison(self, rate, limits, job="publish"):
        return rows.Comparison("publish", "sending", f"--durability page_cache {job} --seconds 1",
                               [rows.Against(self.peer(rate, job), "Other", limits=limits)], warmup=0)

    def measure(self, row, rounds=1):
        return rows.measure(row, rounds, self.shown.append)

    def test_a_ratio_is_judged_by_must_and_aim(self):
        for rate, reached in [(1000.0, "ok"), (500.0, "ok, and the aim"), (1500.0, "SHORT")]:
            outcome = self.measure(self.comparison(rate, {"rate": rows.Limit(1.5, 4)}))
            self.assertEqual([line.reached for line in outcome.lines], [reached])
        self.assertEqual(outcome.lines[0].value, "1.33 x")
        self.assertIn("qmq dev --durability page_cache", outcome.settings[0])
        self.assertEqual(outcome.settings[1], "Other: its settings")

    def test_a_latency_must_be_lower(self):
        limits = {"p50_us": rows.Limit(1.5, 1.0, False), "p99_us": rows.Limit(2.0, 1.0, False)}
        outcome = self.measure(self.comparison(1000.0, limits, "latency"))
        self.assertEqual([(line.job, line.value, line.reached) for line in outcome.lines],
                         [("sending, p50", "0.50 x", "ok, and the aim"), ("sending, p99", "3.00 x", "SHORT")])

    def test_each_peer_is_compared_with_the_command_that_runs_before_it(self):
        row = rows.Comparison("publish", "sending", "publish --seconds 1", [
            rows.Against(self.peer(1000.0), "Small", limits={"rate": rows.Limit(2)}, variant=", small"),
            rows.Against(self.peer(4000.0), "Large", mine="publish --seconds 2", limits={"rate": rows.Limit(2)},
                         variant=", large")], warmup=0)
        outcome = self.measure(row)
        self.assertEqual([(line.job, line.value, line.reached) for line in outcome.lines],
                         [("sending, small", "2.00 x", "ok"), ("sending, large", "0.50 x", "SHORT")])
        self.assertEqual([setting.split(":")[0] for setting in outcome.settings], ["QMQ", "Small", "QMQ", "Large"])
        self.assertIn("--seconds 2", outcome.settings[2])

    def test_each_round_has_a_server_of_its_own_and_leaves_nothing(self):
        self.measure(self.comparison(1000.0, {"rate": rows.Limit(1.5, 4)}), rounds=3)
        served = (self.folder / "served").read_text().split()
        self.assertEqual(len(set(served)), 3)
        self.assertEqual(list(self.folder.glob("qmq-bench.*")), [])

    def test_a_peer_that_cannot_be_had_is_not_measured_and_fails(self):
        with tempfile.NamedTemporaryFile("w", suffix="peer", delete=False, dir=self.folder) as peer:
            peer.write("#!/bin/sh\necho 'peer: nats-server is not installed' >&2\nexit 1\n")
        os.chmod(peer.name, 0o755)
        before, compare.PEER = compare.PEER, peer.name
        self.addCleanup(setattr, compare, "PEER", before)
        row = rows.Comparison("consume", "consuming", "publish", [
            rows.Against("true", "NATS push", "nats", limits={"rate": rows.Limit(2)})])
        outcome = self.measure(row)
        self.assertEqual(outcome.lines[0].reached, "not measured: peer: nats-server is not installed")
        line, reached = rows.verdict([(row, outcome)])
        self.assertFalse(reached)
        self.assertEqual(line, "0 of 1 musts reached, 0 of 0 aims; missed: consume (consuming: not measured: "
                               "peer: nats-server is not installed)")

    def test_a_row_that_fails_says_why_and_fails(self):
        for mood, reason in [("broken", "the disk is full"), ("refusing", "no connection")]:
            self.write_program(mood=mood)
            outcome = self.measure(self.comparison(1000.0, {"rate": rows.Limit(1.5, 4)}))
            self.assertTrue(outcome.lines[0].missed)
            self.assertIn(reason, "\n".join(self.shown))
            self.assertEqual(list(self.folder.glob("qmq-bench.*")), [])

    def test_the_memory_row_looks_at_the_server_itself(self):
        outcome = self.measure(rows.Alone("memory", "resident", rows.memory))
        self.assertEqual([line.job for line in outcome.lines], ["resident, idle", "resident, with a backlog of 1 M"])
        self.assertRegex(outcome.lines[0].value, r"^[1-9][0-9.]* MB$")

    def test_figures_are_written_for_people(self):
        self.assertEqual([rows.figure(value, unit) for value, unit in
                          [(2000, "ms"), (126.4, "ms"), (19.42, "MB"), (1.5e6, "/s"), (3.838, "x")]],
                         ["2,000 ms", "126 ms", "19.4 MB", "1.5 M/s", "3.84 x"])

    def test_the_verdict_names_what_is_missed(self):
        row = self.comparison(1500.0, {"rate": rows.Limit(1.5, 4)})
        line, reached = rows.verdict([(row, self.measure(row))])
        self.assertFalse(reached)
        self.assertEqual(line, "0 of 1 musts reached, 0 of 1 aims; missed: publish (sending: 1.33 x, must ≥ 1.50 x)")
        row = self.comparison(10.0, {"rate": rows.Limit(1.5, 4)})
        self.assertEqual(rows.verdict([(row, self.measure(row))]), ("1 of 1 musts reached, 1 of 1 aims", True))

    def test_markdown_replaces_the_figures_of_a_page_and_nothing_else(self):
        page = self.folder / "page.md"
        page.write_text(f"# Top\n{rows.BEGIN}\nold\n{rows.END}\nbelow\n")
        row = self.comparison(1000.0, {"rate": rows.Limit(1.5, 4)})
        text = rows.markdown([(row, self.measure(row))], ["- a machine"])
        rows.write_markdown(page, text)
        self.assertIn("| `publish` | sending | 2 k/s [2 k/s .. 2 k/s] | Other 1 k/s [1 k/s .. 1 k/s] | 2.00 x | ≥ 1.50 x "
                      "| ≥ 4.00 x | ok |\n", text)
        self.assertEqual(page.read_text(), f"# Top\n{rows.BEGIN}\n{text}{rows.END}\nbelow\n")

    def test_every_row_of_the_table_can_be_chosen_and_others_are_refused(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(rows.main(["--list", "publish", "restart"]), 0)
        self.assertEqual([line.split()[0] for line in out.getvalue().splitlines()], ["publish", "restart"])
        with contextlib.redirect_stderr(io.StringIO()) as err, self.assertRaises(SystemExit):
            rows.main(["publsh"])
        self.assertIn("no row 'publsh'; known: publish", err.getvalue())


if __name__ == "__main__":
    unittest.main()
