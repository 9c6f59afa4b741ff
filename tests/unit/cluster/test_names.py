"""Names in /etc/hosts, and addresses in kubeadm's files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import paths
from nodeagent.cluster import names
from nodeagent.cluster.names import Line
from tests.support.machine import Machine

API = names.api("f-" + "a" * 16)
OWN = names.of("f-" + "a" * 16, "n-" + "b" * 16)
# Whatever people write, but for our two lines.
OTHERS = st.text(alphabet="ab 1.:#\t\n", max_size=80).map(lambda text: text and f"{text}\n")
LINES = st.lists(
    st.builds(Line, st.sampled_from(["10.0.0.1", "fd00::1"]), st.just(API)), min_size=1, max_size=3
)


@given(OTHERS, LINES, LINES)
def test_what_others_wrote_stays_and_ours_is_there_once(
    others: str, before: list[Line], now: list[Line]
) -> None:
    made = names.with_lines(names.with_lines(others, before), now)
    assert names.with_lines(made, now) == made, "a second look finds nothing to do"
    assert names.addresses_of(made, API) == tuple(line.address for line in now)
    assert names.with_lines(made, ()) == others


@given(OTHERS, LINES, st.data())
def test_a_file_that_is_cut_short_loses_nobody_elses_line(
    others: str, lines: list[Line], data: st.DataObject
) -> None:
    whole = names.with_lines(others, lines)
    cut = whole[: data.draw(st.integers(len(others), len(whole)))]
    mended = names.with_lines(cut, lines)
    assert mended.startswith(others)
    assert names.addresses_of(mended, API)[-len(lines) :] == tuple(one.address for one in lines)


def test_a_line_without_an_end_is_not_run_into() -> None:
    made = names.with_lines("127.0.0.1 localhost", [Line("10.0.0.1", API)])
    assert made.startswith(f"127.0.0.1 localhost\n{names.BEGIN}\n10.0.0.1\t{API}\n")


def test_a_control_plane_reaches_itself_by_loopback() -> None:
    assert names.of_control_plane(OWN, "10.0.0.1") == (
        ("127.0.0.1", OWN.api), ("10.0.0.1", OWN.node),
    )  # fmt: skip
    assert names.of_control_plane(OWN, "fd00::1")[0] == ("::1", OWN.api)


def test_the_file_is_written_where_it_differs_only(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write(paths.HOSTS, b"127.0.0.1 localhost\n")
    for _ in range(2):
        names.tell(machine, names.of_worker(API, ["10.0.0.1", "10.0.0.2"]))
    assert names.addresses_of(machine.text(paths.HOSTS) or "", API) == ("10.0.0.1", "10.0.0.2")
    names.tell(machine, ())
    assert machine.text(paths.HOSTS) == "127.0.0.1 localhost\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"    server: https://{API}:6443\n", API),
        ("    server: https://10.0.0.1:6443\n", "10.0.0.1"),
        ("    server: https://[fd00::1]:6443\n", "fd00::1"),
        ("clusters: []\n", ""),
    ],
)
def test_the_host_of_a_kubeconfig(text: str, found: str) -> None:
    assert names.server(text) == found
    assert names.server(names.with_server(text, API)) == (found and API)


@pytest.mark.parametrize("address", ["10.0.0.9", "fd00::9"])
def test_a_manifest_with_another_address(address: str) -> None:
    before = (
        "    kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: 10.0.0.1:6443\n"
        "    - --advertise-address=10.0.0.1\n    - --etcd-servers=https://127.0.0.1:2379\n"
    )
    after = names.with_address(before, address)
    assert names.advertised(after) == address and "10.0.0.1" not in after
    assert "127.0.0.1:2379" in after
    shown = f"[{address}]" if ":" in address else address
    assert f"endpoint: {shown}:6443\n" in after
    assert names.with_address(after, address) == after


def test_no_file_no_address() -> None:
    assert names.node_ip("") == names.advertised("") == names.peer("") == names.server("") == ""
    assert not names.API_NAME.fullmatch("") and names.API_NAME.fullmatch(API)
