#!/usr/bin/env python3
"""Tests of compare.py with programs that print made-up figures."""

import contextlib
import io
import json
import pathlib
import shlex
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import compare  # noqa: E402

# Prints the next of its figures each time it is run, and notes that it was.
PROGRAM = """
import json, pathlib, sys
log = pathlib.Path(sys.argv[1])
name, job, figures = sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
turn = log.read_text().count(name) if log.exists() else 0
with log.open("a") as out:
    out.write(name)
print("some words before it")
print(json.dumps({"peer": name, "job": job, "messages": 1, "settings": "set " + name, **figures[turn]}))
"""


class CompareTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.log = pathlib.Path(folder.name) / "log"
        self.program = pathlib.Path(folder.name) / "program.py"
        self.program.write_text(PROGRAM)

    def command(self, name, figures, job="publish"):
        return shlex.join([sys.executable, str(self.program), str(self.log), name, job, json.dumps(figures)])

    def rates(self, name, *rates):
        return self.command(name, [{"rate": rate} for rate in rates])

    def compare(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = compare.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def test_commands_take_turns_and_warm_up_does_not_count(self):
        code, out, _ = self.compare("--rounds", "3", "--warmup", "1",
                                    self.rates("A", 9e9, 400, 100, 300), self.rates("B", 9e9, 100, 200, 50))
        self.assertEqual(code, 0)
        self.assertEqual(self.log.read_text(), "ABABABAB")
        # Medians 300 and 100; the ratios of the rounds are 4, 0.5 and 6.
        self.assertIn("| publish | A 300/s [100/s .. 400/s] | B 100/s [50/s .. 200/s] | 3.00 | 4.00 |", out)
        self.assertIn("- A: set A\n- B: set B\n", out)

    def test_each_further_command_gets_a_row_against_the_first(self):
        _, out, _ = self.compare("--rounds", "1", "--warmup", "0", "--title", "sending",
                                 self.rates("A", 3e6), self.rates("B", 1.5e6), self.rates("C", 6e3))
        self.assertIn("| sending | A 3 M/s [3 M/s .. 3 M/s] | B 1.5 M/s [1.5 M/s .. 1.5 M/s] | 2.00 | 2.00 |", out)
        self.assertIn("| C 6 k/s [6 k/s .. 6 k/s] | 500.00 | 500.00 |", out)

    def test_latency_is_compared_by_its_percentiles(self):
        figures = [{"rate": 1000, "p50_us": 50.0, "p99_us": 200.0}]
        slower = [{"rate": 1000, "p50_us": 100.0, "p99_us": 100.0}]
        _, out, _ = self.compare("--rounds", "1", "--warmup", "0", self.command("A", figures, "latency"),
                                 self.command("B", slower, "latency"))
        self.assertIn("| latency, p50 | A 50 µs [50 µs .. 50 µs] | B 100 µs [100 µs .. 100 µs] | 0.50 | 0.50 |", out)
        self.assertIn("| latency, p99 |", out)
        self.assertIn("| 2.00 | 2.00 |", out)

    def test_failures_name_the_command_and_the_reason(self):
        fine = self.rates("A", 1, 1, 1)
        for bad, reason in [("false", "false: ended with 1"),
                            ("true", "true: printed no line of JSON"),
                            ("no-such-program x", "No such file"),
                            ("echo '{broken'", "not JSON"),
                            ("""echo '{"peer":"x"}'""", "the result lacks job, messages, rate, settings"),
                            ("sleep 60", "no result within 0.5 s")]:
            code, _, err = self.compare("--timeout", "0.5", "--warmup", "0", bad, fine)
            self.assertEqual(code, 1, bad)
            self.assertIn(reason, err)

    def test_a_figure_that_was_not_measured_is_an_error_and_no_ratio(self):
        unmeasured = self.command("B", [{"rate": 5, "p50_us": None}])
        code, _, err = self.compare("--rounds", "1", "--warmup", "0", "--metric", "p50_us",
                                    self.command("A", [{"rate": 5, "p50_us": 3.0}]), unmeasured)
        self.assertEqual(code, 1)
        self.assertIn("B publish: no p50_us in every round", err)


if __name__ == "__main__":
    unittest.main()
