"""What is told of an error: the innermost one, in its own words, and where it was raised."""

import pytest
import ray
from ray.exceptions import ActorDiedError, RayTaskError

from raybt.errors import UserError
from raybt.fleet.cause import cause_of


def wrapped():
    try:
        raise KeyError("rotary_emb")
    except KeyError as error:
        raise RuntimeError("To change retry attempts, configure DataContext") from error


def caught(function, *args) -> Exception:
    with pytest.raises(Exception) as found:  # whatever it is: that is the point
        function(*args)
    return found.value


def test_the_innermost_error_is_named_and_where_it_was_raised():
    cause = cause_of(caught(wrapped), "replica 1 broke", ["a", "b"])
    assert cause.line.startswith("replica 1 broke: KeyError: 'rotary_emb' (")
    assert cause.where.endswith(f"test_cause.py, line {wrapped.__code__.co_firstlineno + 2}")
    assert cause.line.endswith("; in its slots: a; b") and "DataContext" not in cause.line
    assert "raise KeyError" in cause.trace and "trace" not in cause.entry


def test_a_users_mistake_is_said_as_such_whatever_brought_it_to_light():
    def refuse():
        try:
            raise OSError("no such file")
        except OSError as error:
            raise UserError("a rule", "a value", "a fix") from error

    assert cause_of(caught(refuse), "").message == "a rule; got a value. Fix: a fix"


def test_long_words_are_cut_on_the_terminal_alone():
    def shout():
        raise ValueError("x" * 1000)

    cause = cause_of(caught(shout), "it broke")
    assert len(cause.message) == 1000 and len(cause.line) < 600


def test_an_error_of_another_process_is_told_like_one_of_this(local_ray):
    @ray.remote
    def far():
        wrapped()

    error = caught(ray.get, far.remote())
    assert isinstance(error, RayTaskError)
    cause = cause_of(error, "a task broke")
    assert (cause.type, cause.message) == ("KeyError", "'rotary_emb'") and "test_cause.py" in cause.where


def test_an_actor_that_cannot_begin_is_told_by_what_it_raised(local_ray):
    @ray.remote(num_cpus=0)
    class Broken:
        def __init__(self):
            raise ImportError("No module named 'flash_attn'")

        def ping(self):
            return 1

    error = caught(ray.get, Broken.remote().ping.remote())
    assert isinstance(error, ActorDiedError)
    cause = cause_of(error, "replica 1 was lost")
    assert cause.line.startswith("replica 1 was lost: ActorDiedError: ImportError: No module named 'flash_attn'")


def test_an_actor_that_is_killed_leaves_no_advice(local_ray):
    @ray.remote(num_cpus=0, max_restarts=0)
    class Fragile:
        def end(self):
            import os

            os._exit(1)

    cause = cause_of(caught(ray.get, Fragile.remote().end.remote()), "replica 1 was lost")
    assert cause.message.startswith("its process was killed or crashed without a word")
