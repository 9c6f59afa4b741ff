"""The waiting list under crowds."""

from __future__ import annotations

from nodeagent.join.approval import MAX_WAITING, SEALED, WAITING_LIFE, Waiting, WaitingRoom


def asking(number: int, source: str, now: int = 0) -> Waiting:
    """A node that waits."""
    node = f"n-{number:016d}".translate(str.maketrans("0189", "abcd"))
    return Waiting(node, f"pi-{number}", source, SEALED, now, now)


def test_a_crowd_does_not_hide_who_waits() -> None:
    """32 keys of one address filled the list for as long as they went on asking."""
    room = WaitingRoom()
    for number in range(3 * MAX_WAITING):
        room.note(asking(number, "10.77.0.66"))
    assert room.note(asking(999, "10.77.0.12"))
    for number in range(3 * MAX_WAITING):
        room.note(asking(number, "10.77.0.66"))
    assert "10.77.0.12" in {one.source for one in room.present(1)}
    assert len(room.present(1)) == MAX_WAITING
    assert room.present(WAITING_LIFE) == ()


def test_among_addresses_the_lot_decides() -> None:
    """So that whoever asks each minute is to be seen for a share of the time."""
    room, seen, rounds = WaitingRoom(), 0, 200
    for _ in range(rounds):
        for number in range(MAX_WAITING + 8):
            room.note(asking(number, f"10.77.1.{number}"))
        room.note(asking(999, "10.77.0.12"))
        for number in range(10):
            room.note(asking(number, f"10.77.1.{number}"))
        seen += "10.77.0.12" in {one.source for one in room.present(1)}
    assert seen > rounds / 3
