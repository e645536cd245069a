#!/usr/bin/env python3
"""Tests of base.py with made-up programs that use up a known processor time."""

import contextlib
import io
import os
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import base  # noqa: E402
import ours  # noqa: E402

# The server uses up {start} s before it is ready and {stop} s when it is asked to end; the client uses up {client} s.
QMQ = """#!/usr/bin/env python3
import json, pathlib, signal, sys, time
log = pathlib.Path("{log}")
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
def leave(*unused):
    burn({stop})
    sys.exit({exit})
command = sys.argv[1]
log.open("a").write("{name} " + command + " " + " ".join(sys.argv[2:]) + "\\n")
if command == "dev":
    signal.signal(signal.SIGTERM, leave)
    burn({start})
    print("grpc://127.0.0.1:1234")
    print("ready after 1 ms", flush=True)
    while True:
        signal.pause()
if {client} < 0:
    sys.exit("qmq: no connection")
burn({client})
print(json.dumps({{"peer": "qmq", "job": sys.argv[2], "rate": 1.0, "messages": 1000, "settings": ""}}))
"""


def runs(*each_ns):
    return [base.Used(each / 1e9 * 1000, 0, 1000) for each in each_ns]


def figures(name, old, new):
    return base.Figures(base.Row(name, "a job", ""), runs(*old), runs(*new))


class BaseTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.log = self.folder / "log"
        self.old, self.new = self.program("old"), self.program("new")
        self.set_environment("QMQ_PROGRAM", self.new)
        self.set_environment("TMPDIR", str(self.folder))
        tempfile.tempdir = None
        self.shown = []

    def tearDown(self):
        tempfile.tempdir = None

    def set_environment(self, name, value):
        before = os.environ.get(name)
        os.environ[name] = value
        self.addCleanup(lambda: os.environ.pop(name) if before is None else os.environ.__setitem__(name, before))

    def program(self, name, start=0.0, stop=0.0, client=0.0, code=0):
        path = self.folder / name
        path.write_text(QMQ.format(log=self.log, name=name, start=start, stop=stop, client=client, exit=code))
        path.chmod(0o755)
        return str(path)

    def measure(self, row, rounds=1, warmup=0, scale=1.0):
        return base.measure(row, self.old, rounds, warmup, scale, self.shown.append)

    def row(self, command="--durability page_cache publish --messages {messages}", **fields):
        return base.Row("publish", "sending", command, **fields)

    def test_each_client_meets_the_server_of_its_version_and_they_take_turns(self):
        self.measure(self.row(), rounds=2, warmup=1)
        spoken = [line.split()[:2] for line in self.log.read_text().splitlines()]
        self.assertEqual(spoken, [["old", "dev"], ["old", "bench"], ["new", "dev"], ["new", "bench"]] * 3)
        self.assertEqual(list(self.folder.glob("qmq-bench.*")), [])

    def test_the_time_of_client_and_server_counts_and_not_that_of_the_start(self):
        self.new = self.program("new", start=0.5, stop=0.2, client=0.3)
        used = self.measure(self.row()).new[0]
        self.assertTrue(0.3 <= used.client < 0.6, used)  # The start of the made-up program itself counts, too.
        self.assertTrue(0.2 <= used.server < 0.4, used)
        self.assertEqual(used.messages, 1000)

    def test_inside_one_process_all_time_is_the_clients(self):
        used = self.measure(self.row("--inproc both --messages {messages}", messages=5)).new[0]
        self.assertEqual(used.server, 0)
        self.assertIn("new bench both --messages 5 --uri inproc: --json", self.log.read_text())
        self.assertNotIn("dev", self.log.read_text())

    def test_a_small_scale_makes_the_work_small(self):
        self.measure(self.row(messages=3_000_000), scale=0.001)
        self.measure(self.row("latency --seconds {seconds}", seconds=5), scale=0.001)
        self.assertIn("publish --messages 3000 ", self.log.read_text())
        self.assertIn("latency --seconds 0.2 ", self.log.read_text())

    def test_messages_of_a_warm_up_count(self):
        self.assertEqual(self.measure(self.row(warm=500)).new[0].messages, 1500)

    def test_a_row_and_all_together_have_their_limits(self):
        good = figures("publish", [100, 90, 500], [104, 104, 104])
        self.assertAlmostEqual(good.ratio, 1.04)
        line, reached = base.verdict([good, figures("consume", [100], [101])], [])
        self.assertTrue(reached, line)
        self.assertEqual(line, "processor time per message beside the base: 1.025 x together, 1.025 x in the mean of 2 rows, "
                               "at most 1.040 x (publish)")
        line, reached = base.verdict([good, figures("consume", [100], [104])], [])
        self.assertFalse(reached)
        self.assertIn("; missed: all together (must ≤ 1.03 x)", line)
        line, reached = base.verdict([figures("publish", [100], [106]), figures("consume", [1000], [900])], [])
        self.assertFalse(reached)
        self.assertIn("; missed: publish (a job: 1.060 x, must ≤ 1.05 x)", line)

    def test_what_is_large_weighs_more_in_the_sum_and_not_in_the_mean(self):
        total, mean = base.together([figures("publish", [900], [900]), figures("consume", [100], [121])])
        self.assertAlmostEqual(total, 1.021)
        self.assertAlmostEqual(mean, 1.1)

    def test_a_row_that_fails_says_why_and_the_others_go_on(self):
        self.new = self.program("new", client=-1)
        options = base.parse_arguments(["--base", self.old, "--rounds", "1", "--warmup", "0"])
        measured, failed = base.measure_all([self.row()], options, self.shown.append)
        self.assertEqual((len(measured), len(failed)), (0, 1))
        self.assertIn("no connection", "\n".join(self.shown))
        self.assertEqual(base.verdict(measured, failed),
                         ("processor time per message: missed: publish (sending: not measured)", False))

    def test_a_server_that_does_not_end_well_is_no_figure(self):
        self.old = self.program("old", code=3)
        with self.assertRaisesRegex(ours.Failure, "ended with 3"):
            self.measure(self.row())

    def test_the_table_is_written_between_its_marks(self):
        page = self.folder / "page.md"
        page.write_text(f"# Top\n{base.BEGIN}\nold\n{base.END}\nbelow\n")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self.assertIn(base.main(["--base", self.old, "--base-name", "1234567", "--rounds", "1", "--warmup", "0", "--markdown",
                                     str(page), "inproc", "memory"]), (0, 1))
        self.assertRegex(page.read_text(), r"(?s)^# Top\n<!-- base: begin -->\nProcessor time per message beside 1234567, 1 rounds:\n"
                                           r"\n\| Row .*\n\| `inproc` .*\n<!-- base: end -->\nbelow\n$")
        self.assertIn("processor time per message beside 1234567: ", out.getvalue().splitlines()[-1])

    def test_rows_without_a_processor_time_are_passed_over_and_others_are_refused(self):
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(base.main(["--base", self.old, "memory", "restart"]), 0)
        with contextlib.redirect_stderr(io.StringIO()) as err, self.assertRaises(SystemExit):
            base.main(["--base", self.old, "publsh"])
        self.assertIn("no row 'publsh'; known: publish, ", err.getvalue())

    def test_each_row_can_be_read(self):
        for row in base.ROWS:
            options = row.options(1.0)
            self.assertTrue(row.messages or row.seconds)
            self.assertTrue(str(row.messages or row.seconds) in " ".join(options.job), options.job)


if __name__ == "__main__":
    unittest.main()
