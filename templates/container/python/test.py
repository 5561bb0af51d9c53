"""The test of @NAME@: its class, without a process."""
import asyncio
import importlib
import types
import unittest

Container = importlib.import_module("@NAME@").Container


def message(text="", parameters=None):
    return types.SimpleNamespace(text=text, parameters=parameters)


class Test(unittest.TestCase):
    def setUp(self):
        self.container = Container()
        self.container.alias = "t"
        self.container.construct()

    def ask(self, text):
        return asyncio.run(self.container.behave(message(text)))

    def test_it_answers_and_counts(self):
        self.assertEqual(self.ask("hello"), "t: request 1 was 'hello'")
        self.assertEqual(self.ask("again"), "t: request 2 was 'again'")

    def test_a_restart_begins_anew(self):
        self.ask("hello")
        self.container.construct()
        self.assertEqual(self.ask("hello"), "t: request 1 was 'hello'")

    def test_it_adds(self):
        self.assertEqual(self.container.add(message(parameters=[1, 2])), 3)


if __name__ == "__main__":
    unittest.main()
