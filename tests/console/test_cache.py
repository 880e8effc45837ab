import pickle
from pathlib import Path

import pytest
from django.core.cache import cache


@pytest.mark.parametrize("value", [0, -7, 2**40, 1.5, "text", "7", True, None, ["a", 1], {"a": [1]}])
def test_values_come_back_as_they_were(value: object) -> None:
    cache.set("value", value)
    assert cache.get("value") == value
    assert type(cache.get("value")) is type(value)


def test_numbers_can_be_counted() -> None:
    cache.set("count", 1)
    cache.incr("count")
    assert cache.get("count") == 2


class Program:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.touched,)


def test_what_somebody_else_wrote_is_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    client = cache._cache.get_client(None, write=True)  # type: ignore[attr-defined]
    client.set(cache.make_key("value"), pickle.dumps(Program(touched)))
    with pytest.raises(ValueError):
        cache.get("value")
    assert not touched.exists()
    cache.delete("value")
