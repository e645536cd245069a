#!/usr/bin/env python3
"""Tests of mended.py with a made-up test program."""

import contextlib
import io
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import mended  # noqa: E402

# Speaks as GoogleTest does. Each test lists the switches that it fails with; "dies" takes the program with it.
PROGRAM = """#!/usr/bin/env python3
import fnmatch, os, sys
tests = {
    "AckTest.Counts": ["drop_ack"],
    "AckTest.Dies": ["dies"],
    "AckTest.Sees": ["drop_ack", "dies"],
    "OtherTest.IsBlind": [],
    "OtherTest.IsBroken": ["", "drop_ack"],
    "OtherTest.IsSkipped": ["skipped"],
}
switch = os.environ.get("QMQ_PLANT", "")
if switch not in ("", "drop_ack", "dies"):
    sys.exit('QMQ_PLANT: unknown planted bug "' + switch + '"')
options = dict(word.split("=") if "=" in word else (word, "") for word in sys.argv[1:])
patterns = options["--gtest_filter"].split(":")
names = [name for name in tests if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
failed = False
if "--gtest_list_tests" in options:
    print("Running main() from somewhere")
    suite = None
    for name in names:
        if name.split(".")[0] != suite:
            suite = name.split(".")[0]
            print(suite + ".")
        print("  " + name.split(".")[1])
    sys.exit(0)
for name in names:
    print("[ RUN      ] " + name, flush=True)
    if switch == "dies" and "dies" in tests[name]:
        os.abort()
    if "skipped" in tests[name]:
        print("[  SKIPPED ] " + name + " (0 ms)")
    elif switch in tests[name]:
        print("[  FAILED  ] " + name + " (0 ms)")
        failed = True
    else:
        print("half a line of the test's own[       OK ] " + name + " (0 ms)")
sys.exit(failed)
"""


class MendedTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.build = pathlib.Path(folder.name)
        program = self.build / "tests/unit/ack/ack_test"
        program.parent.mkdir(parents=True)
        program.write_text(PROGRAM)
        program.chmod(0o755)
        self.table = self.build / "table.txt"

    def seen(self, switch, tests, program="ack_test"):
        try:
            return mended.check(mended.Fault("a promise", "a fault", switch, program, tests), self.build)
        except mended.Failure as failure:
            return f"NOT HELD: {failure}"

    def run_table(self, text):
        self.table.write_text(text)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            result = mended.main([str(self.build), "--table", str(self.table)])
        return result, out.getvalue()

    def test_a_fault_is_held_when_each_test_passes_and_fails_with_the_switch(self):
        self.assertEqual(self.seen("drop_ack", "AckTest.Counts:AckTest.Sees"), "2 passed, and failed with drop_ack")

    def test_a_fault_without_a_switch_only_has_to_pass(self):
        self.assertEqual(self.seen("", "AckTest.*"), "3 passed")

    def test_a_test_that_passes_all_the_same_is_named(self):
        self.assertEqual(self.seen("drop_ack", "AckTest.Counts:OtherTest.IsBlind"),
                         "NOT HELD: passes with drop_ack switched on: OtherTest.IsBlind")

    def test_a_test_that_fails_without_the_switch_is_named(self):
        self.assertEqual(self.seen("drop_ack", "OtherTest.IsB*"), "NOT HELD: fails: OtherTest.IsBroken")

    def test_a_test_that_ends_its_program_has_failed_and_the_rest_are_run(self):
        self.assertEqual(self.seen("dies", "AckTest.Dies:AckTest.Sees"), "2 passed, and failed with dies")
        self.assertIn("passes with dies switched on: OtherTest.IsBlind",
                      self.seen("dies", "AckTest.Dies:OtherTest.IsBlind"))

    def test_a_skipped_test_proves_nothing(self):
        self.assertIn("NOT HELD: skipped, or not understood: OtherTest.IsSkipped", self.seen("", "OtherTest.IsSkipped"))

    def test_names_that_lead_nowhere_are_told(self):
        self.assertIn("unknown planted bug", self.seen("nonsense", "AckTest.Counts"))
        self.assertIn("no test is called AckTest.Gone", self.seen("drop_ack", "AckTest.Counts:AckTest.Gone"))
        self.assertIn("no test is named", self.seen("drop_ack", mended.NOT_FOUND_YET))
        self.assertIn("0 programs of that name", self.seen("drop_ack", "AckTest.Counts", "no_test"))

    def test_the_verdict_follows_every_line_of_the_table(self):
        result, out = self.run_table("# words\n\nacks | lost | drop_ack | ack_test | AckTest.Counts\n"
                                     "acks | made up | - | ack_test | AckTest.*\n")
        self.assertEqual(result, 0)
        self.assertTrue(out.endswith("2 of 2 faults are held mended by their tests; with the old behaviour switched on "
                                     "they fail for 1 of 1\n"))
        result, out = self.run_table("acks | lost | drop_ack | ack_test | OtherTest.IsBlind\n")
        self.assertEqual(result, 1)
        self.assertIn("0 of 1", out)

    def test_a_table_that_cannot_be_read_fails(self):
        for text in ("", "acks | lost | drop_ack | ack_test\n", "acks | lost | | ack_test | AckTest.*\n"):
            self.assertEqual(self.run_table(text)[0], 1)

    def test_the_table_of_the_project_can_be_read(self):
        for fault in mended.read_table(mended.TOP / "tests/mended.txt"):
            if fault.switch:
                self.assertIn(f'"{fault.switch}"', (mended.TOP / "server/env/planted_bug.cc").read_text())


if __name__ == "__main__":
    unittest.main()
