#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""That tools/layers lets the tree pass and catches what it is for."""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Layers(unittest.TestCase):
    def setUp(self):
        self.tree = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.tree)
        (self.tree / "docs").mkdir()
        shutil.copy(ROOT / "docs/ARCHITECTURE.md", self.tree / "docs")
        self.write("src/base/buf.h", "")

    def write(self, path, text):
        (self.tree / path).parent.mkdir(parents=True, exist_ok=True)
        (self.tree / path).write_text(text)

    def check(self):
        run = subprocess.run([ROOT / "tools/layers", self.tree], capture_output=True, text=True, check=False)
        return run.returncode, run.stdout + run.stderr

    def assert_caught(self, path, target):
        self.write(path, f'#include <stdio.h>\n#include "{target}"\n')
        code, out = self.check()
        self.assertEqual(code, 1, out)
        self.assertIn(f"{path}:2:", out)
        self.assertIn(f'"{target}"', out)

    def test_the_source_tree_keeps_to_its_table(self):
        run = subprocess.run([ROOT / "tools/layers"], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_listed_and_own_includes_pass(self):
        self.write("src/core/core.c", '#include "base/buf.h"\n#include "core/core.h"\n#include "davit/store.h"\n')
        self.write("src/runtime/process/a.c", '#include "runtime/process/a.h"\n#include "keeper/protocol.h"\n')
        self.write("src/core/core_test.c", '#include "store/stores.h"\n')
        self.assertEqual(self.check(), (0, ""))

    def test_the_core_may_not_see_a_store_driver(self):
        self.assert_caught("src/core/core.c", "store/stores.h")

    def test_base_may_see_errors_and_nothing_else_of_davit(self):
        self.write("src/base/a.c", '#include "davit/error.h"\n')
        self.assertEqual(self.check(), (0, ""))
        self.assert_caught("src/base/buf.c", "davit/loop.h")

    def test_a_runtime_may_not_see_another(self):
        self.assert_caught("src/runtime/process/a.c", "runtime/fake/fake.h")

    def test_a_name_that_only_begins_alike_is_another_folder(self):
        self.assert_caught("src/loop/a.c", "basement/a.h")

    def test_a_way_around_by_relative_path_is_caught(self):
        self.assert_caught("src/core/core.c", "../store/stores.h")

    def test_a_folder_without_a_row_is_told(self):
        self.write("src/novel/a.c", "")
        code, out = self.check()
        self.assertEqual(code, 1)
        self.assertIn("src/novel/a.c:1:", out)

    def test_a_missing_table_is_an_error_not_a_pass(self):
        self.write("docs/ARCHITECTURE.md", "nothing here\n")
        code, out = self.check()
        self.assertEqual(code, 2)
        self.assertIn("no table", out)


if __name__ == "__main__":
    sys.exit(unittest.main())
