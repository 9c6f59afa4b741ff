"""The real kubeadm renews certificates that have ended, with our configuration file and no API
server (lab tier; needs only the kubeadm of the lab's mirror)."""

from __future__ import annotations

import datetime as dt
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from nodeagent.cluster import kubeadm_config, names, renewal, versions
from nodeagent.config.settings import Settings
from tests.lab.test_policy import KUBERNETES

pytestmark = [pytest.mark.lab, pytest.mark.processes]

OWN = names.of("f-" + "a" * 16, "n-" + "b" * 16)
NAMES = [Path(path).relative_to(renewal.PKI) for path in renewal.KUBEADMS if path.endswith(".crt")]


def run(*words: str) -> None:
    """kubeadm."""
    subprocess.run([str(KUBERNETES / "kubeadm"), *words], check=True, timeout=300)


def age(pki: Path, name: Path) -> None:
    """The same certificate, two years ago."""
    issuer = {"front-proxy-client.crt": "front-proxy-ca"}.get(
        name.name, "etcd/ca" if "etcd" in str(name) else "ca"
    )
    old = x509.load_pem_x509_certificate((pki / name).read_bytes())
    signer = serialization.load_pem_private_key((pki / f"{issuer}.key").read_bytes(), None)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder(extensions=[*old.extensions])
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=800))
        .not_valid_after(now - dt.timedelta(days=400))
    )
    aged = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    (pki / name).write_bytes(aged.public_bytes(serialization.Encoding.PEM))


def made(folder: Path) -> tuple[Path, Path]:
    """The certificates of a control plane that kubeadm makes, and the configuration for it."""
    pki, config = folder / "pki", folder / "init.yaml"
    documents = [*yaml.safe_load_all(
        kubeadm_config.init_configuration(
            Settings(), versions.DEFAULT, "pi-1", "192.0.2.10", OWN, slow=False
        )
    )]  # fmt: skip
    documents[1]["certificatesDir"] = str(pki)
    config.write_text(yaml.safe_dump_all(documents))
    run("init", "phase", "certs", "all", "--config", str(config))
    return pki, config


def test_kubeadm_renews_what_has_ended(tmp_path: Path) -> None:
    pki, config = made(tmp_path)
    before = {name: x509.load_pem_x509_certificate((pki / name).read_bytes()) for name in NAMES}
    for name in NAMES:
        age(pki, name)
        assert (renewal.end((pki / name).read_bytes()) or 0) < time.time()

    run("certs", "renew", "all", "--config", str(config))

    for name in NAMES:
        data = (pki / name).read_bytes()
        left = (renewal.end(data) or 0) - time.time()
        assert left > 300 * 86400, name
        new, old = x509.load_pem_x509_certificate(data), before[name]
        assert new.subject == old.subject, name
        assert {e.oid: e.value for e in new.extensions} == {e.oid: e.value for e in old.extensions}


@pytest.mark.parametrize("minors", [2, 5])
def test_a_cluster_that_was_born_minors_ago_renews_with_the_release_that_runs(
    minors: int, tmp_path: Path
) -> None:
    """By hand upgraded, its file still says with which release it was made."""
    pki, config = made(tmp_path)
    release = versions.DEFAULT.kubernetes
    major, minor, _ = map(int, release.split("."))
    config.write_text(config.read_text().replace(f"v{release}", f"v{major}.{minor - minors}.0"))
    before = (pki / "apiserver.crt").read_bytes()
    with pytest.raises(subprocess.CalledProcessError):  # why it has to follow
        run("certs", "renew", "all", "--config", str(config))
    manifest = f"    image: registry.k8s.io/kube-apiserver:v{release}\n"
    config.write_bytes(kubeadm_config.of_now(config.read_text(), manifest, "192.0.2.10"))

    run("certs", "renew", "all", "--config", str(config))

    assert (pki / "apiserver.crt").read_bytes() != before
