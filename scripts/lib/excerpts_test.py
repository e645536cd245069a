#!/usr/bin/env python3
"""The guide's code is that of the samples, and excerpts.py would notice if it were not."""
import subprocess
import sys
import unittest

import excerpts

SOURCE = "int a;\n    // excerpt: loop\n    while (true)\n        Go();\n    // end\n"
PAGE = "Text.\n<!-- excerpt: a.cc loop -->\n```cpp\nwhile (true)\n    Go();\n```\n"


def read(path):
    return SOURCE if path == "a.cc" else None


class ExcerptsTest(unittest.TestCase):
    def test_the_same_code_is_no_problem(self):
        self.assertEqual(excerpts.with_excerpts(PAGE, read), (PAGE, []))

    def test_other_code_is_named_and_can_be_mended(self):
        written, problems = excerpts.with_excerpts(PAGE.replace("Go()", "Stop()"), read)
        self.assertEqual(written, PAGE)
        self.assertEqual(len(problems), 1)
        self.assertIn("'loop' of a.cc differs", problems[0])

    def test_a_file_or_name_that_is_not_there_is_named(self):
        for wrong in (PAGE.replace("a.cc", "b.cc"), PAGE.replace(" loop ", " lop ")):
            written, problems = excerpts.with_excerpts(wrong, read)
            self.assertEqual(written, wrong)
            self.assertIn("has no excerpt", problems[0])

    def test_a_mark_without_a_block_is_named(self):
        _, problems = excerpts.with_excerpts("<!-- excerpt: a.cc loop -->\nText.\n", read)
        self.assertEqual(problems, ["an excerpt mark without a block of C++ below it"])

    def test_the_guide_is_as_the_samples_are(self):
        result = subprocess.run([sys.executable, excerpts.__file__], capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stdout), (0, ""))


if __name__ == "__main__":
    unittest.main()
