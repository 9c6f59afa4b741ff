"""Who gets through TLS with which certificate, on this Python; `make hostile` asks the newest."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent.trust import pki, tls
from nodeagent.trust.store import Trust
from tests.support.tls_cases import TABLE, good, late, shake

pytestmark = pytest.mark.network


@pytest.mark.parametrize("what", TABLE)
@pytest.mark.parametrize("check_time", [True, False], ids=["clock right", "clock unknown"])
def test_verdicts(
    what: str, check_time: bool, trust: Trust, stranger: Trust, tmp_path: Path
) -> None:
    change, wanted = TABLE[what]
    case = change(good(trust), trust, stranger)
    assert shake(case, trust.root_cert, tmp_path, check_time).who == wanted


def test_dates_count_only_where_the_clock_is_known(trust: Trust, tmp_path: Path) -> None:
    future = late(trust)
    refused = shake(future, trust.root_cert, tmp_path, check_time=True)
    assert (refused.who, refused.why) == ("client", "certificate is not yet valid")


def test_a_node_s_clock_may_be_behind(trust: Trust, tmp_path: Path) -> None:
    case = good(trust)
    future = late(trust)
    node = replace(future, client=case.client, client_key=case.client_key)
    assert shake(node, trust.root_cert, tmp_path, check_time=False).who == "ok"


def test_nothing_below_tls_1_3_and_no_foreign_roots(trust: Trust, tmp_path: Path) -> None:
    case = good(trust)
    root = tmp_path / "root"
    root.write_text(pki.cert_pem(case.server[1]))
    shake(case, case.server[1], tmp_path)  # writes the files
    names = [str(tmp_path / name) for name in ("s.crt", "s.key", "root")]
    for context in (
        tls.server(*names),
        tls.client(names[0], names[1], root.read_text(), check_time=True),
    ):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert len(context.get_ca_certs()) == 1
