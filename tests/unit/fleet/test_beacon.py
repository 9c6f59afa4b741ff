"""Beacons: small, opened only with the fleet's key; those of other versions are told apart."""

from __future__ import annotations

import base64
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import Untrusted
from nodeagent.fleet.beacon import Beacon, Proof, open_, prove
from nodeagent.fleet.neighbours import Neighbours
from nodeagent.serve.mdns.message import from_txt, to_txt
from tests.support.speakers import KEY, POINT, Speaker, came, inside, seal_values, unsigned

NODE = Speaker(1)
ME = Beacon(
    node_id=NODE.node_id, boot="0123abcd", name="raspberrypi", phase="electing",
    role="auto", fitness=(1, 2, 8, 1), epoch=1, claim=True, ready=False, expected=4,
    address="10.77.0.11", port=6444, seq=1,
)  # fmt: skip

beacons = st.builds(
    Beacon,
    node_id=st.from_regex(r"n-[a-z2-7]{16}", fullmatch=True),
    boot=st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
    name=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    phase=st.sampled_from(["preparing", "initialising", "failed"]),
    role=st.sampled_from(["auto", "control-plane", "worker"]),
    fitness=st.lists(st.integers(0, 2**31), max_size=8).map(tuple),
    epoch=st.integers(0, 2**31),
    claim=st.booleans(),
    ready=st.booleans(),
    expected=st.integers(0, 1000),
    address=st.one_of(st.just(""), st.ip_addresses(v=4).map(str)),
    port=st.integers(1, 65535),
    seq=st.integers(0, 2**48),
    uptime=st.integers(0, 2**40),
    leader=st.sampled_from(["", "n-abcdefghij234567"]),
)


@given(beacons)
def test_what_is_sealed_is_opened_and_fits_txt_records(beacon: Beacon) -> None:
    sealed = NODE.seal(beacon)
    said = open_(KEY, sealed)
    assert said.beacon == replace(beacon, node_id=NODE.node_id)
    assert prove(said, POINT) is Proof.ISSUER
    strings = to_txt(sealed)
    assert all(len(name) + 1 + len(text) <= 255 for name, text in strings.items())
    record = [f"{name}={text}".encode() for name, text in strings.items()]
    assert from_txt(b"".join(bytes([len(string)]) + string for string in record)) == sealed


@given(st.binary(max_size=600))
def test_any_txt_record_is_borne(record: bytes) -> None:
    from_txt(record)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_refused(place: int, change: int) -> None:
    data = bytearray(base64.urlsafe_b64decode(NODE.seal(ME) + "=="))
    data[place % len(data)] ^= change
    with pytest.raises(Untrusted):
        open_(KEY, base64.urlsafe_b64encode(data).rstrip(b"=").decode())


@given(st.text(max_size=1000))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(Untrusted):
        open_(KEY, text)


def test_another_fleets_beacon_is_refused() -> None:
    with pytest.raises(Untrusted):
        open_(bytes(31) + b"\1", NODE.seal(ME))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[:-5], lambda v: [0, *v[1:]], lambda v: [True, *v[1:]], lambda v: {"a": 1},
        lambda v: [*v[:4], "Dancing!", *v[5:]], lambda v: [*v[:3], "a b", *v[4:]],
        lambda v: [*v[:8], 1, *v[9:]], lambda v: [], lambda v: v[1:],
    ],
)  # fmt: skip
def test_sealed_nonsense_is_refused(change: object) -> None:
    assert callable(change)
    with pytest.raises(Untrusted, match="of this fleet was not understood"):
        open_(KEY, seal_values(change(inside(unsigned(ME)))))


def test_it_is_small() -> None:
    formed = replace(
        ME, name="p" * 63, phase="initialising", role="control-plane", uptime=10**8, seq=10**6,
        leader=ME.node_id, vote=ME.node_id, vote_epoch=12, address="fd00:1111:2222:3333::4444",
    )  # fmt: skip
    assert len(unsigned(ME)) < 220 and len(unsigned(formed)) < 500  # as 0.2.0 sends them
    assert len(Speaker(1, vouched=False).seal(ME)) < 410
    assert len(NODE.seal(ME)) < 520
    assert len(NODE.seal(formed)) < 800


class TestHearing:
    """A replayed beacon is not a node; a node once heard stays."""

    def test_only_a_moving_counter_is_life(self) -> None:
        neighbours = Neighbours(KEY, "n-" + "a" * 16, POINT)
        first = NODE.seal(ME)
        assert neighbours.update(None, came([first]), 1.0)[1][0].last == 1.0
        assert neighbours.update(None, came([first, NODE.seal(ME)]), 50.0)[1][0].last == 1.0
        moved = NODE.seal(replace(ME, seq=2))
        heard = neighbours.update(None, came([first, moved]), 60.0)[1]
        assert [(h.first, h.last, h.beacon.seq) for h in heard] == [(1.0, 60.0, 2)]

    def test_an_earlier_boot_is_an_echo(self) -> None:
        neighbours = Neighbours(KEY, "n-" + "a" * 16, POINT)
        neighbours.update(None, came([NODE.seal(replace(ME, seq=7))]), 1.0)
        neighbours.update(None, came([NODE.seal(replace(ME, boot="aaaaaaaa", claim=False))]), 2.0)
        (heard,) = neighbours.update(None, came([NODE.seal(replace(ME, seq=9))]), 3.0)[1]
        assert (heard.beacon.boot, heard.last) == ("aaaaaaaa", 2.0)

    def test_a_beacon_held_back_from_an_earlier_boot_deafens_nobody(self) -> None:
        neighbours = Neighbours(KEY, "n-" + "a" * 16, POINT)
        now, held_back = replace(ME, boot="00000002"), replace(ME, boot="00000001", seq=99)
        neighbours.update(None, came([NODE.seal(now)]), 1.0)
        neighbours.update(None, came([NODE.seal(held_back)]), 2.0)
        (heard,) = neighbours.update(None, came([NODE.seal(replace(now, seq=2))]), 3.0)[1]
        assert (heard.beacon.boot, heard.beacon.seq, heard.last) == ("00000002", 2, 3.0)

    def test_a_node_with_a_new_journal_is_heard_again_after_a_while(self) -> None:
        neighbours = Neighbours(KEY, "n-" + "a" * 16, POINT)
        neighbours.update(None, came([NODE.seal(replace(ME, boot="00000007"))]), 1.0)
        anew = replace(ME, boot="00000001")
        assert neighbours.update(None, came([NODE.seal(anew)]), 500.0)[1][0].last == 1.0
        (heard,) = neighbours.update(None, came([NODE.seal(replace(anew, seq=2))]), 700.0)[1]
        assert (heard.beacon.boot, heard.last) == ("00000001", 700.0)

    def test_a_flood_of_forgeries_displaces_nobody(self) -> None:
        neighbours = Neighbours(KEY, "n-" + "a" * 16, POINT)
        neighbours.update(None, came([NODE.seal(ME)]), 1.0)
        flood = [base64.urlsafe_b64encode(os.urandom(150)).decode() for _ in range(5000)]
        assert [h.beacon for h in neighbours.update(None, came(flood), 2.0)[1]] == [ME]

    def test_the_own_beacon_is_no_other_node_and_its_mark_must_move(self) -> None:
        neighbours = Neighbours(KEY, ME.node_id, POINT)
        assert neighbours.update(None, came([NODE.seal(ME)]), 1.0) == (None, ())
        assert neighbours.update(1700000000, [], 2.0)[0] == 2.0
        assert neighbours.update(1700000000, [], 99.0)[0] == 2.0
        assert neighbours.update(1700000005, [], 100.0)[0] == 100.0
