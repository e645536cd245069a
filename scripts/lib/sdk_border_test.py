#!/usr/bin/env python3
"""Tests of sdk_border.py with a made-up header and test program."""

import contextlib
import io
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import sdk_border  # noqa: E402

HEADER = """#pragma once
/// Sends messages. Thread-safe; `Flush` waits
/// until all is answered. kCancelled after shutdown.
class Producer {
    int count = 0;  ///< Messages that
                    ///< wait. Never negative.
    bool full = false;  ///< No room.
private:
    /// Not for users.
    int hidden = 0;
};
"""

PROGRAM = """#!/usr/bin/env python3
import fnmatch, sys
tests = {"SendTest.Waits": True, "All/SendTest.IsThreadSafe/0": True, "SendTest.Fails": False}
options = dict(word.split("=") if "=" in word else (word, "") for word in sys.argv[1:])
names = [n for n in tests if any(fnmatch.fnmatch(n, p) for p in options["--gtest_filter"].split(":"))]
if "--gtest_list_tests" in options:
    for name in names:
        print(name.split(".")[0] + ".")
        print("  " + name.split(".")[1])
    sys.exit(0)
for name in names:
    print("[ RUN      ] " + name)
    print(("[       OK ] " if tests[name] else "[  FAILED  ] ") + name + " (0 ms)")
sys.exit(not all(tests[name] for name in names))
"""

ALL = """producer.h | Sends messages | - | names the class
producer.h | Thread-safe; `Flush` waits until | send_test | SendTest.Waits:SendTest.Is*
producer.h | kCancelled | send_test | SendTest.Waits
producer.h | wait. | - | names the field
producer.h | Never negative | send_test | SendTest.Waits
producer.h | No room | - | names the field
fault 1 | a fault | send_test | SendTest.Waits
"""


class SdkBorderTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.build = pathlib.Path(folder.name)
        program = self.build / "tests/unit/send_test"
        program.parent.mkdir(parents=True)
        program.write_text(PROGRAM)
        program.chmod(0o755)
        header = self.build / "producer.h"
        header.write_text(HEADER)
        for name, value in (("HEADERS", {"producer.h": header}), ("FAULTS", range(1, 2))):
            self.addCleanup(setattr, sdk_border, name, getattr(sdk_border, name))
            setattr(sdk_border, name, value)

    def run_table(self, text):
        table = self.build / "table.txt"
        table.write_text(text)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            result = sdk_border.main([str(self.build), "--table", str(table)])
        return result, out.getvalue()

    def test_sentences_are_those_of_the_documentation_comments(self):
        self.assertEqual(sdk_border.sentences(sdk_border.HEADERS["producer.h"]),
                         ["Sends messages.", "Thread-safe; `Flush` waits until all is answered.",
                          "kCancelled after shutdown.", "Messages that wait.", "Never negative.", "No room."])

    def test_a_table_that_covers_all_and_holds_passes(self):
        result, out = self.run_table("# words\n\n" + ALL)
        self.assertEqual(result, 0, out)
        self.assertTrue(out.endswith("4 of 4 lines hold; of 6 sentences in 1 headers 6 have a line; 0 lines quote what no header "
                                     "says\n"), out)

    def test_a_sentence_without_a_line_is_told(self):
        result, out = self.run_table(ALL.replace("producer.h | Never negative | send_test | SendTest.Waits\n", ""))
        self.assertEqual(result, 1)
        self.assertIn("producer.h, no line for: Never negative.", out)

    def test_a_quotation_that_no_header_has_is_told(self):
        result, out = self.run_table(ALL + "producer.h | Sends mail | send_test | SendTest.Waits\n")
        self.assertEqual(result, 1)
        self.assertIn("producer.h does not say: Sends mail", out)

    def test_a_test_that_fails_or_is_not_there_is_told(self):
        result, out = self.run_table(ALL + "fault 1 | another | send_test | SendTest.Fails\n"
                                     "fault 1 | a third | send_test | SendTest.Gone\n")
        self.assertEqual(result, 1)
        self.assertIn("NOT HELD: fails: SendTest.Fails", out)
        self.assertIn("NOT HELD: no test is called SendTest.Gone", out)

    def test_a_fault_without_a_test_is_told(self):
        result, out = self.run_table(ALL.replace("fault 1 | a fault | send_test | SendTest.Waits\n", ""))
        self.assertEqual(result, 1)
        self.assertIn("fault 1 has no test", out)

    def test_a_table_that_cannot_be_read_fails(self):
        for text in ("", ALL + "producer.h | No room | send_test\n", ALL + "other.h | No room | - | why\n"):
            self.assertEqual(self.run_table(text)[0], 1)


if __name__ == "__main__":
    unittest.main()
