"""Runs the steps of a client test in order and prints a line of JSON for each, so that a failure names its step."""

import json
import traceback

_STEPS = []


def step(function):
    """Registers a function as the next step; its name is the step's."""
    _STEPS.append(function)
    return function


def run_steps():
    # First how many there are: a script that ends early must not pass for one that did everything.
    print(json.dumps({"steps": len(_STEPS)}), flush=True)
    for function in _STEPS:
        result = {"step": function.__name__, "error": None}
        try:
            function()
        except Exception:
            result["error"] = traceback.format_exc(limit=-4)
        print(json.dumps(result), flush=True)


def equal(found, expected):
    assert found == expected, f"expected {expected!r}, but found {found!r}"
