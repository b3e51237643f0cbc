"""`warren up --tls-cert`: a certificate of the operator's own, from a public-like CA with an intermediate, and its replacement."""

import asyncio
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from warren_lab.process import wait_until
from warren_testkit.agent.process import AgentProcess
from warren_testkit.up import running_up
from warren_trust.certificates import Authority, fingerprint, issue, make_authority

pytestmark = [pytest.mark.promises, pytest.mark.timeout(900)]

WARREN = Path(sys.executable).with_name("warren")
LIMIT_S = 120.0


def bring(folder: Path, authority: Authority, *roots: Authority) -> list[str]:
    """The operator's files, and the options that name them."""
    issued = issue(authority, "bus", ["localhost"], datetime.now(UTC))
    files = {"cert": issued.chain_pem, "key": issued.key_pem, "ca": b"".join(root.pem for root in roots)}
    for name, text in files.items():
        (folder / f"{name}.new").write_bytes(text)
        (folder / f"{name}.new").replace(folder / f"{name}.pem")
    return [word for name in files for word in (f"--tls-{name}", str(folder / f"{name}.pem"))]


def served_by(url: str, authority: Authority) -> bool:
    """Whether the API server shows a certificate of this CA."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    try:
        return (
            httpx.get(f"{url}/api/health/live", verify=context, trust_env=False, timeout=LIMIT_S).status_code
            == httpx.codes.OK
        )
    except httpx.TransportError:
        return False


def scraped(url: str, authority: Authority, own: Path | None = None) -> int:
    """The status of a scrape, with a certificate of the scraper's own or without one; 0: no answer."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if own is not None:
        context.load_cert_chain(own)
    try:
        return httpx.get(
            url.replace("127.0.0.1", "localhost"), verify=context, trust_env=False, timeout=LIMIT_S
        ).status_code
    except httpx.TransportError:
        return 0


def pinned(path: Path) -> list[bytes]:
    return [fingerprint(it) for it in x509.load_pem_x509_certificates(path.read_bytes())]


async def test_an_own_certificate_is_served_pinned_by_agents_and_replaced_by_overlap(tmp_path: Path) -> None:
    first, second = make_authority(datetime.now(UTC)), make_authority(datetime.now(UTC))
    scrapers = make_authority(datetime.now(UTC))
    (tmp_path / "scrapers.pem").write_bytes(scrapers.pem)
    scraper = issue(scrapers, "prometheus", ["prometheus"], datetime.now(UTC), for_clients=True)
    (tmp_path / "scraper.pem").write_bytes(scraper.chain_pem + scraper.key_pem)
    options = [*bring(tmp_path, first, first), "--metrics-client-ca", str(tmp_path / "scrapers.pem")]
    with running_up(tmp_path / "data", "--advertise", "localhost", *options) as up:
        url = up.info["url"]
        assert url.startswith("https://localhost:")
        await asyncio.to_thread(wait_until, lambda: served_by(url, first), "the own certificate is served", LIMIT_S)
        metrics = up.info["metrics_url"]
        assert [scraped(metrics, first, own) for own in (None, tmp_path / "scraper.pem")] == [0, 200]
        operator = {
            "PATH": os.environ["PATH"], "WARREN_URL": url, "WARREN_TOKEN_FILE": up.info["token_file"],
        }  # fmt: skip
        made = subprocess.run(
            [WARREN, "token", "create", "--tag", "hub"], env=operator, capture_output=True, text=True, check=True
        )
        environment = {"PATH": os.environ["PATH"], "WARREN_NATS_URL": up.info["nats_url"], "WARREN_PEER": "hub"}
        agent = AgentProcess(tmp_path / "hub", environment, made.stdout.strip())
        await agent.enrol()
        assert pinned(agent.state / "ca.pem") == [fingerprint(first.certificate)]
        await agent.start()
        try:
            bring(tmp_path, first, first, second)
            both = {fingerprint(first.certificate), fingerprint(second.certificate)}
            await asyncio.to_thread(
                wait_until, lambda: set(pinned(agent.state / "ca.pem")) == both, "the agent pins both roots", 120.0
            )
            bring(tmp_path, second, first, second)
            await asyncio.to_thread(
                wait_until, lambda: served_by(url, second), "the new certificate is served", LIMIT_S
            )
            expired = issue(second, "bus", ["localhost"], datetime.now(UTC) - timedelta(days=120))
            (tmp_path / "cert.pem").write_bytes(expired.chain_pem)
            (tmp_path / "key.pem").write_bytes(expired.key_pem)
            await asyncio.to_thread(
                wait_until, lambda: agent.log.count('"event": "bus.connected"') >= 2, "the agent is back", LIMIT_S
            )
            assert served_by(url, second)  # one that cannot be used changes nothing
        finally:
            await agent.stop()
