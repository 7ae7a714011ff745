"""What is handed to whoever hosts the program on several machines: all that these files name exists, and fits together.

No container is started here. The proxy is run in replicas/test_proxy.py, and probes come in replicas/test_drain.py.
"""

import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
import yaml
from procrastinate.jobs import Status
from prometheus_client.metrics import MetricWrapperBase

from outpaint_mcp.bootstrap import configured
from outpaint_mcp.cli.main import parser_for
from outpaint_mcp.domain.record import JobKind
from outpaint_mcp.settings import Settings
from outpaint_mcp.storage.postgres import jobs
from outpaint_mcp.storage.postgres.seal import new_key
from outpaint_mcp.tasks import sending
from outpaint_mcp.web import app as http_app
from outpaint_mcp.web.metrics import Metrics

from .test_deploy import DOCKERFILE, PLATFORM_COMPOSE, PLATFORM_PAGE, instruction
from .test_deploy import MANIFESTS as MANIFESTS_FILE
from .test_deploy import NGINX as NGINX_FILE
from .transports.processes import http_server, open_vendors, variables

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load(PLATFORM_COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFESTS_FILE.read_text()))
PAGE = PLATFORM_PAGE.read_text()
NGINX = NGINX_FILE.read_text()
SERVER_STOPS = http_app.STOP_SECONDS + sending.STOP_SECONDS
WORKER_STOPS = jobs.STOP_SECONDS + sending.STOP_SECONDS
STOPS = {"server": SERVER_STOPS, "poll": sending.STOP_SECONDS, "draw": WORKER_STOPS}
"""How long a process of each kind may take to end, in seconds."""


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """What the pods are like, by what they do."""
    return {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["template"]["spec"]
        for one in of_kind("Deployment").values()
    }


def container(component: str) -> dict[str, Any]:
    (one,) = pods()[component]["containers"]
    assert isinstance(one, dict)
    return one


def ours() -> dict[str, dict[str, Any]]:
    """Compose's services that run this program."""
    return {name: one for name, one in SERVICES.items() if one["image"] == "outpaint-mcp"}


def command_lines() -> Iterator[list[str]]:
    for one in ours().values():
        yield shlex.split(one["command"])
    for pod in pods().values():
        (main,), (before,) = pod["containers"], pod["initContainers"]
        yield main["args"]
        shell, flag, script = before["command"]
        assert (shell, flag) == ("sh", "-c")
        for command in script.split("||"):
            program, *arguments = shlex.split(command)
            assert program == "outpaint-mcp"
            yield arguments


def parsed(arguments: list[str]) -> Namespace:
    return parser_for(arguments).parse_args(arguments)


@pytest.mark.parametrize("arguments", list(command_lines()), ids=" ".join)
def test_every_command_line_is_one_of_the_programs(arguments: list[str]) -> None:
    assert parsed(arguments).run is not None


# Both


def test_the_environment_is_one_that_the_program_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"OUTPAINT_SEAL_KEY": new_key(), "OUTPAINT_DATABASE_URL": "postgresql://outpaint@db/outpaint"}
    (config,) = of_kind("ConfigMap").values()
    for environment in (SERVICES["server-1"]["environment"], SERVICES["worker"]["environment"], config["data"]):
        with monkeypatch.context() as changed:
            for name, value in {**secret, **environment}.items():
                assert isinstance(value, str), f"{name} must be in quotation marks"
                # ${NAME:-default} and ${NAME:?what to do}
                given = re.fullmatch(r"\$\{\w+:([-?])(.*)\}", value)
                changed.setenv(name, value if given is None else given[2] if given[1] == "-" else "https://a.example")
            settings = configured()
        assert settings.workers
        assert settings.images_url == "s3://outpaint"


def test_no_password_is_in_a_file() -> None:
    for name, one in SERVICES.items():
        named = [key for key in one.get("environment", {}) if re.search(r"PASSWORD|SECRET|KEY|TOKEN$", key)]
        assert [key for key in named if key != "OUTPAINT_KEEP_IMAGES_GB"] == [], name
    assert of_kind("Secret") == {}
    for text in (PLATFORM_COMPOSE.read_text(), MANIFESTS_FILE.read_text()):
        assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", text)


def test_the_page_makes_each_file_and_secret_that_is_needed() -> None:
    named = [one.get("env_file", []) for one in SERVICES.values()]
    files = {file for one in named for file in ([one] if isinstance(one, str) else one)}
    assert files == {"keys.env", "platform.env", "postgres.env", "s3.env"}
    for file in files:
        assert re.search(rf"(?:>|touch\b.*) {file}\b", PAGE), file
    secrets = {volume["secret"]["secretName"] for volume in pods()["server"]["volumes"] if "secret" in volume}
    for pod in pods().values():
        for one in (*pod["containers"], *pod["initContainers"]):
            sources = one["envFrom"]
            configs = {source["configMapRef"]["name"] for source in sources if "configMapRef" in source}
            assert configs == of_kind("ConfigMap").keys()
            secrets |= {source["secretRef"]["name"] for source in sources if "secretRef" in source}
    made = set(re.findall(r"kubectl create secret generic ([\w-]+)", PAGE))
    assert made == secrets


def test_each_process_has_longer_to_stop_than_it_takes() -> None:
    for name, one in ours().items():
        if name != "upgrade":
            needed = WORKER_STOPS if name == "worker" else SERVER_STOPS
            assert int(one["stop_grace_period"].removesuffix("s")) > needed, name
    for component, pod in pods().items():
        hook = container(component).get("lifecycle", {"preStop": {"exec": {"command": ["sleep", "0"]}}})["preStop"]
        program, seconds = hook["exec"]["command"]
        assert program == "sleep"
        assert pod["terminationGracePeriodSeconds"] - int(seconds) > STOPS[component], component
        # Endpoints are removed meanwhile.
        assert (int(seconds) > 0) == (component == "server")


# Compose


def test_the_containers_can_do_no_more_than_they_need() -> None:
    for name, one in SERVICES.items():
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "network_mode", "pid"} & one.keys(), name
    assert {name: one["ports"] for name, one in SERVICES.items() if "ports" in one} == {
        "proxy": ["127.0.0.1:8000:8080"]
    }
    assert [SERVICES[name]["networks"] for name in ("postgres", "s3")] == [["stores"], ["stores"]]
    assert COMPOSE["networks"]["stores"] == {"internal": True}


def test_the_tables_are_upgraded_before_a_server_or_worker_starts() -> None:
    assert SERVICES["upgrade"]["command"] == "db upgrade"
    assert SERVICES["upgrade"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ours().keys() - {"upgrade"}:
        assert SERVICES[name]["depends_on"]["upgrade"] == {"condition": "service_completed_successfully"}
        assert SERVICES[name]["depends_on"]["s3"] == {"condition": "service_healthy"}
    for name in ("postgres", "s3", *SERVICES["proxy"]["depends_on"]):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD", name


def test_the_database_forgets_no_order() -> None:
    options = SERVICES["postgres"]["command"]
    assert {"fsync=on", "synchronous_commit=on", "full_page_writes=on"} <= set(options)


def test_the_program_and_its_stores_agree_on_names() -> None:
    environment, postgres = SERVICES["server-1"]["environment"], SERVICES["postgres"]["environment"]
    user, database = postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]
    assert environment["OUTPAINT_DATABASE_URL"] == f"postgresql://{user}@postgres/{database}"
    bucket = environment["OUTPAINT_IMAGES_URL"].removeprefix("s3://")
    (script,) = SERVICES["s3"]["command"]
    assert f"mkdir -p /data/{bucket}\n" in script
    assert "s3:/data" in SERVICES["s3"]["volumes"]
    assert environment["AWS_ENDPOINT_URL"] == "http://s3:7070"
    folder = environment["OUTPAINT_TOKENS_FILE"].rpartition("/")[0]
    assert f"./tokens:{folder}:ro" in SERVICES["server-1"]["volumes"]


async def test_the_health_check_tells_a_server_that_can_work_from_none(tmp_path: Path) -> None:
    tests = [one["healthcheck"]["test"] for name, one in ours().items() if name != "upgrade"]
    assert tests == [tests[0]] * len(tests)
    kind, program, flag, script = tests[0]
    assert (kind, program, flag) == ("CMD", "python", "-c")

    async def check(port: str) -> int:
        changed = script.replace(str(parsed(shlex.split(SERVICES["worker"]["command"])).metrics_port), port)
        assert changed != script
        return (await anyio.run_process([sys.executable, "-c", changed], check=False)).returncode

    async with open_vendors() as vendors, http_server(variables(tmp_path, vendors), "--metrics-port", "0") as server:
        (port,) = re.findall(r"serves metrics on http://127.0.0.1:(\d+)/", server.log.decode())
        assert await check(port) == 0
        server.process.kill()
        await server.ended.wait()
        assert await check(port) != 0


def test_the_proxy_sends_to_the_servers_that_there_are() -> None:
    served = parsed(shlex.split(SERVICES["server-1"]["command"]))
    named = re.findall(r"^ +server ([\w-]+):(\d+) resolve;$", NGINX, re.MULTILINE)
    assert named == [(name, str(served.port)) for name in SERVICES if name.startswith("server-")]
    assert {name for name, _ in named} == SERVICES["proxy"]["depends_on"].keys()
    assert re.findall(r"listen (\d+);", NGINX) == [SERVICES["proxy"]["ports"][0].rpartition(":")[2]]
    assert f"./{NGINX_FILE.relative_to(ROOT)}:/etc/nginx/nginx.conf:ro" in SERVICES["proxy"]["volumes"]
    assert re.findall(r"client_max_body_size (\d+)m;", NGINX) == [str(Settings.model_fields["max_request_mb"].default)]
    (idle,) = re.findall(r"keepalive_timeout (\d+)s;", NGINX)
    assert int(idle) < uvicorn.Config(app=lambda: None).timeout_keep_alive


def test_the_image_has_what_the_platform_needs() -> None:
    assert DOCKERFILE.read_text().count("[metrics,platform]") == 2
    assert instruction("ENTRYPOINT") == '["outpaint-mcp"]'


# Kubernetes


def test_the_pods_can_do_no_more_than_they_need() -> None:
    user, group = map(int, instruction("USER").split(":"))
    for component, pod in pods().items():
        assert pod["automountServiceAccountToken"] is False, component
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, user, group)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in (*pod["containers"], *pod["initContainers"]):
            assert one["securityContext"] == {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_what_is_written_has_its_volumes_and_stays_below_their_limits() -> None:
    (config,) = of_kind("ConfigMap").values()
    folder = Path(config["data"]["OUTPAINT_DATA_DIR"])
    for component, pod in pods().items():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        places = {mount["mountPath"]: volumes[mount["name"]] for mount in container(component)["volumeMounts"]}
        assert str(folder.parent) in places, "a folder in the volume, which this user can close to others"
        limit = places[str(folder.parent)]["emptyDir"]["sizeLimit"]
        assert float(config["data"]["OUTPAINT_KEEP_IMAGES_GB"]) * 1e9 < int(limit.removesuffix("Gi")) * 2**30
        assert "sizeLimit" in places["/tmp"]["emptyDir"]  # noqa: S108 (a pod's own)
        if component == "server":
            tokens = Path(config["data"]["OUTPAINT_TOKENS_FILE"])
            assert "secret" in places[str(tokens.parent)]
            assert f"--from-file={tokens.name}" in PAGE


@pytest.mark.parametrize("component", ["server", "poll", "draw"])
def test_probes_and_scrapes_come_to_the_port_of_the_metrics(component: str) -> None:
    one = container(component)
    options = parsed(one["args"])
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert ports["metrics"] == options.metrics_port
    assert options.metrics_host == "0.0.0.0", "they come from elsewhere"  # noqa: S104 (no listener of ours)
    probes = {name: one[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert probes == {
        "startup": {"path": "/healthz", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
        "liveness": {"path": "/healthz", "port": "metrics"},
    }
    (deployment,) = (
        found
        for found in of_kind("Deployment").values()
        if found["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )
    scraped = deployment["spec"]["template"]["metadata"]["annotations"]
    assert scraped["prometheus.io/port"] == str(options.metrics_port)
    assert scraped["prometheus.io/path"] == "/metrics"
    if component == "server":
        assert ports["http"] == options.port
        assert not getattr(options, "insecure", False)
    else:
        assert (options.poll, options.draw) == (component == "poll", component == "draw")


def test_what_selects_pods_selects_those_that_there_are() -> None:
    deployments = of_kind("Deployment")
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in deployments.items()}
    for name, one in deployments.items():
        assert one["spec"]["selector"]["matchLabels"] == labels[name]
        assert one["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert of_kind("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == labels[name]
    assert len({tuple(sorted(one.items())) for one in labels.values()}) == 3
    (service,) = of_kind("Service").values()
    assert service["spec"]["selector"] == labels["outpaint-server"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= {
        port["name"] for port in container("server")["ports"]
    }
    (config,) = of_kind("ConfigMap").values()
    assert service["metadata"]["name"] in config["data"]["OUTPAINT_ALLOWED_HOSTS"].split(",")


def registered() -> dict[str, tuple[str, ...]]:
    """The labels of each metric of this program."""
    return {one._name: one._labelnames for one in vars(Metrics()).values() if isinstance(one, MetricWrapperBase)}


def check_metric(name: str, labels: Mapping[str, str]) -> None:
    assert labels.keys() <= set(registered()[name]), name
    assert labels.get("kind", JobKind.DRAW) in set(JobKind)
    assert labels.get("status", Status.TODO.value) in {status.value for status in Status}


def test_what_scales_looks_at_metrics_that_there_are() -> None:
    scalers = of_kind("HorizontalPodAutoscaler")
    assert scalers.keys() == {"outpaint-poll", "outpaint-draw"}
    queries = {
        (name, frozenset(re.findall(r'(\w+)="(\w+)"', labels)))
        for text in (MANIFESTS_FILE.read_text(), PAGE)
        for name, labels in re.findall(r"max\((\w+)(?:\{([^}]*)\})?\)", text)
    }
    for name, scaler in scalers.items():
        target = scaler["spec"]["scaleTargetRef"]
        assert target["name"] == name
        assert "replicas" not in of_kind(target["kind"])[name]["spec"]
        (measure,) = scaler["spec"]["metrics"]
        metric = measure["external"]["metric"]
        labels = metric.get("selector", {}).get("matchLabels", {})
        check_metric(metric["name"], labels)
        assert (metric["name"], frozenset(labels.items())) in queries
        queries.remove((metric["name"], frozenset(labels.items())))
    assert queries == set(), "each is what a scaler asks for"
    drawn = parsed(container("draw")["args"]).concurrency
    assert float(container("draw")["resources"]["requests"]["cpu"]) == drawn


def test_every_metric_that_is_named_is_one_of_the_programs() -> None:
    for text in (MANIFESTS_FILE.read_text(), PAGE):
        named = re.findall(r"\boutpaint_[a-z_]+\b(?!\.)", text.replace("outpaint_mcp", ""))
        assert named
        assert {name.removesuffix("_total") for name in named} <= registered().keys()
