"""SAGE evaluates sparse autoencoders against ground truth.

These are the public names. Each is imported from its module at first use, so that `import sage`
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sage.threads import wait_briefly as _wait_briefly
from sage.version import __version__ as __version__

_wait_briefly()

if TYPE_CHECKING:
    from sage.cells import load_results
    from sage.circuits.catalog import load_circuit
    from sage.dictionaries.activations import read
    from sage.dictionaries.projected import project
    from sage.dictionaries.supervised import fit_features
    from sage.discovery import discover
    from sage.errors import SageError
    from sage.evaluation import evaluate
    from sage.export import export_results
    from sage.fidelity.measure import measure_fidelity
    from sage.frontier.fit import fit_frontier
    from sage.inspection import inspect
    from sage.models.loaded import load_model
    from sage.nodes import Node
    from sage.preparation import measure_gate, prepare
    from sage.report import write_report
    from sage.report.one_figure import draw_figure
    from sage.report.sizes import compare
    from sage.result import Result
    from sage.result_file import load_result
    from sage.run import Plan, make_plan
    from sage.saes.in_memory import as_suite
    from sage.saes.releases import load_suite, load_suites
    from sage.screening import screen
    from sage.store.store import user_store
    from sage.task.catalog import load_task
    from sage.task.task import Contrast, Prompt, Task
    from sage.toy.composite import toy_composite
    from sage.zoo.text import default_text

__all__ = [
    "Contrast",
    "Node",
    "Plan",
    "Prompt",
    "Result",
    "SageError",
    "Task",
    "as_suite",
    "compare",
    "default_text",
    "discover",
    "draw_figure",
    "evaluate",
    "export_results",
    "fit_features",
    "fit_frontier",
    "inspect",
    "load_circuit",
    "load_model",
    "load_result",
    "load_results",
    "load_suite",
    "load_suites",
    "load_task",
    "make_plan",
    "measure_fidelity",
    "measure_gate",
    "prepare",
    "project",
    "read",
    "screen",
    "toy_composite",
    "user_store",
    "write_report",
]

_HOME = {
    "Contrast": "sage.task.task",
    "Node": "sage.nodes",
    "Plan": "sage.run",
    "Prompt": "sage.task.task",
    "Result": "sage.result",
    "SageError": "sage.errors",
    "Task": "sage.task.task",
    "as_suite": "sage.saes.in_memory",
    "compare": "sage.report.sizes",
    "default_text": "sage.zoo.text",
    "discover": "sage.discovery",
    "draw_figure": "sage.report.one_figure",
    "export_results": "sage.export",
    "inspect": "sage.inspection",
    "measure_gate": "sage.preparation",
    "evaluate": "sage.evaluation",
    "fit_features": "sage.dictionaries.supervised",
    "fit_frontier": "sage.frontier.fit",
    "load_circuit": "sage.circuits.catalog",
    "load_model": "sage.models.loaded",
    "load_result": "sage.result_file",
    "load_results": "sage.cells",
    "load_suite": "sage.saes.releases",
    "load_suites": "sage.saes.releases",
    "load_task": "sage.task.catalog",
    "make_plan": "sage.run",
    "measure_fidelity": "sage.fidelity.measure",
    "prepare": "sage.preparation",
    "project": "sage.dictionaries.projected",
    "read": "sage.dictionaries.activations",
    "toy_composite": "sage.toy.composite",
    "screen": "sage.screening",
    "user_store": "sage.store.store",
    "write_report": "sage.report",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'sage' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
