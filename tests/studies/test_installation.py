"""The doctor as a function of the library: what is sound, and what is said of a core that is broken.

In: this installation; one that is made to look broken. Out: findings.
Source: what is installed here.
"""

import json

from wsolkern import BackendUnavailable, studies
from wsolkern.ops import backends


def states(found) -> dict[str, str]:
    return {each.part: each.state for each in found.findings}


def test_this_installation_is_sound():
    found = studies.doctor()
    assert not found.is_broken and states(found)["self-test"] == "ok"
    parts = json.loads(json.dumps(found.to_dict()))["findings"]
    assert parts[0]["part"] == "wsolkern" and set(parts[0]) == {"part", "state", "detail", "fix"}


def test_a_core_that_is_not_there_is_found_and_raises_nothing(monkeypatch):
    def native():
        raise BackendUnavailable("no core here")

    monkeypatch.setattr(backends, "native", native)
    found = studies.doctor()
    assert found.is_broken and states(found)["core"] == states(found)["self-test"] == "broken"
    (core,) = (each for each in found.findings if each.part == "core")
    assert core.detail == "no core here" and core.fix.startswith("pip install")


def test_numbers_of_threads_that_are_none(monkeypatch):
    monkeypatch.setenv("WSOLKERN_NUM_THREADS", "many")
    (threads,) = (each for each in studies.doctor().findings if each.part == "threads")
    assert (threads.state, threads.fix) == ("broken", "unset WSOLKERN_NUM_THREADS")
