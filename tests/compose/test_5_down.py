"""The stack taken down: the engine has nothing of it any more."""

from tests.compose.conftest import Stack


def test_down_leaves_nothing(stack: Stack) -> None:
    assert stack.left_behind()  # it is up, so there is something to leave
    stack.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
    assert stack.left_behind() == []
