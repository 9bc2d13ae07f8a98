from collections.abc import Callable

import pytest

from harness.models.registry import Registry, unknown


def entry() -> None:
    """Does nothing."""


def test_an_entry_is_found_under_its_own_name() -> None:
    registry: Registry[Callable[[], None]] = Registry("thing")
    assert registry.register(entry) is entry
    assert registry["entry"] is entry and list(registry) == ["entry"] and "entry" in registry


def test_a_duplicate_is_refused() -> None:
    registry: Registry[Callable[[], None]] = Registry("thing")
    registry.register(entry)
    with pytest.raises(ValueError, match="The thing `entry` is registered twice. Rename one"):
        registry.register(entry)


def test_an_unknown_name_brings_the_nearest() -> None:
    registry: Registry[Callable[[], None]] = Registry("thing")
    registry.register(entry)
    with pytest.raises(LookupError, match="no thing called `entri`. Did you mean `entry`?"):
        registry["entri"]
    with pytest.raises(LookupError, match="no thing called `zzz`. There are: entry."):
        registry["zzz"]


def test_of_a_thousand_names_some_are_named() -> None:
    text = str(unknown("model", "zzz", (f"net{i:04}" for i in range(1000))))
    assert text.endswith("net0059 and 940 more.") and "net0060" not in text
