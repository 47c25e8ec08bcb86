"""The changes that mutation testing tries."""

from __future__ import annotations

import ast
import textwrap

from mutants.changes import changes


def tried(source: str) -> list[tuple[str, str]]:
    return [(change.before, change.after) for change in changes(textwrap.dedent(source))]


def test_operators_numbers_and_reductions_become_their_neighbours() -> None:
    assert tried("x = a + 1 if b < 0.5 else -c.sum(0)") == [
        ("b < 0.5", "(b <= 0.5)"),
        ("0.5", "1.0"),
        ("a + 1", "(a - 1)"),
        ("1", "2"),
        ("-c.sum(0)", "(c.sum(0))"),
        ("c.sum(0)", "c.mean(0)"),
        ("0", "1"),
    ]


def test_conditions_turn_round_and_calls_are_left_out() -> None:
    assert tried("""
        for each in [n for n in numbers if n.odd]:
            if ready:
                note(each)
                continue
            """) == [
        ("n.odd", "(not n.odd)"),
        ("ready", "(not ready)"),
        ("note(each)", "pass"),
        ("continue", "break"),
    ]


def test_annotations_messages_and_assertions_are_left_alone() -> None:
    assert tried('''
        """1 + 1"""
        def verb(given: Tensor | None, *, most: Literal[1] = 2) -> list[1]:
            """0 < 1"""
            size: dict[str, int | None] = {}
            if TYPE_CHECKING:
                size = 3
            assert len(given) > 3
            raise BadTask(f"{most + 1} of {len(given) - 1}")
        ''') == [("2", "3")]


def test_a_change_is_applied_where_it_was_found_in_text_of_any_script() -> None:
    source = "name = 'é'; x = [α * 2,\n     β]  # both\n"
    first, second = changes(source)
    assert first.applied(source.encode()).decode() == source.replace("α * 2", "(α / 2)")
    assert second.applied(source.encode()).decode() == source.replace("2", "3")


def test_a_change_knows_its_function_and_line_and_still_parses() -> None:
    source = "class A:\n    def b(self):\n        return self.c and not self.d\n"
    listed = changes(source)
    assert [(change.function, change.line) for change in listed] == [("A.b", 3), ("A.b", 3)]
    for change in listed:
        ast.parse(change.applied(source.encode()))
