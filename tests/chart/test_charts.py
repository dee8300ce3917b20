"""Both charts: what is rendered is valid, safe, and what the processes themselves can read; wrong values are refused by name."""

from __future__ import annotations

import copy
import subprocess
import tomllib
from typing import Any

import jsonschema
import pytest
import yaml
from helm_python.chart import lint
from helm_python.errors import HelmValuesError

from federation.tlog.event import Event, EventKind
from federation.tlog.reader import LogReader
from gateway import app as gateway_app
from gateway import settings as gateway_settings
from gateway.cases.store import LEASE_MS
from gateway.search.roster import Roster
from gateway.settings import GatewaySettings
from node_agent import app as node_app
from node_agent import settings as node_settings
from tests.chart.conftest import GATEWAY, NODE, ROOT, SETS, of_kind, validate, values_of

MONITOR_FIELDS = {
    "ServiceMonitor": {"selector", "endpoints"},
    "PodMonitor": {"selector", "podMetricsEndpoints"},
}
"""Kinds of the Prometheus operator, of which no schema is at hand: the fields we may emit."""


def workload(manifests):
    (found,) = of_kind(manifests, "Deployment", "StatefulSet")
    return found


def pods(manifests):
    return [one["spec"]["template"]["spec"] for one in of_kind(manifests, "Deployment", "StatefulSet", "Job")]


@pytest.mark.parametrize(("chart", "name"), SETS)
def test_every_manifest_is_what_kubernetes_knows(render, chart, name):
    manifests = render(chart, values_of(chart, name))
    assert manifests
    for manifest in manifests:
        if manifest["kind"] in MONITOR_FIELDS:
            assert set(manifest["spec"]) <= MONITOR_FIELDS[manifest["kind"]]
        else:
            validate(manifest)
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests]
    assert len(names) == len(set(names))


def test_a_misspelt_field_would_be_noticed(render):
    manifest = workload(render("gateway", values_of("gateway", "minimal")))
    manifest["spec"]["replica"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validate(manifest)


@pytest.mark.parametrize(("chart", "name"), SETS)
def test_pods_may_do_nothing_they_need_not(render, chart, name):
    for pod in pods(render(chart, values_of(chart, name))):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"] + pod.get("initContainers", []):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize(("chart", "name"), SETS)
def test_no_secret_is_made_or_written_into_a_manifest(render, chart, name):
    manifests = render(chart, values_of(chart, name))
    assert not of_kind(manifests, "Secret")
    for pod in pods(manifests):
        for container in pod["containers"] + pod.get("initContainers", []):
            for variable in container.get("env", ()):
                assert "valueFrom" in variable or variable["name"] in {"PGSSLMODE", "PGSSLROOTCERT"}


@pytest.mark.parametrize(("chart", "name"), SETS)
def test_what_is_not_listed_is_denied(render, chart, name):
    manifests = render(chart, values_of(chart, name))
    (policy, *_) = [
        one for one in of_kind(manifests, "NetworkPolicy") if "migration" not in one["metadata"]["name"]
    ]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule["ports"] for rule in policy["spec"]["ingress"] + policy["spec"]["egress"])
    selects = policy["spec"]["podSelector"]["matchLabels"].items()
    assert selects <= workload(manifests)["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("name", GATEWAY)
def test_the_gateway_reads_what_its_chart_writes(render, tmp_path, monkeypatch, name):
    """The settings of the chart are the settings of the process, and each certificate path is mounted."""
    manifests = render("gateway", values_of("gateway", name))
    written = next(
        one for one in of_kind(manifests, "ConfigMap") if "migration" not in one["metadata"]["name"]
    )["data"]
    (tmp_path / "gateway.toml").write_text(written["gateway.toml"], "utf-8")
    pod = workload(manifests)["spec"]["template"]["spec"]
    for variable in pod["containers"][0].get("env", ()):
        is_store = variable["name"] == "GW_STORE"
        monkeypatch.setenv(
            variable["name"], "postgresql+psycopg://store.example/lantai" if is_store else "gateway-0"
        )
    settings = gateway_settings.load(tmp_path / "gateway.toml")
    assert settings.store_url(tmp_path).startswith(
        "postgresql" if settings.store != "sqlite" else "sqlite:////var/lib/lantai/"
    )
    if "roster.toml" in written:
        (tmp_path / "roster.toml").write_text(written["roster.toml"], "utf-8")
        archives = values_of("gateway", name)["roster"]["archives"]
        roster = Roster.load(tmp_path / "roster.toml")
        assert {member.code: member.name for member in roster.members} == {
            one["code"]: one["name"] for one in archives
        }
    mounted = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    for path in (
        settings.ca,
        settings.roster,
        settings.clients,
        settings.http_certificate,
        settings.data,
        settings.stamp_certificate,
        settings.anchor_file,
    ):
        assert not path or any(path.startswith(mount) for mount in mounted), path


def test_what_the_gateways_chart_has_no_value_for_passes_through(render, tmp_path):
    (written, *_) = of_kind(render("gateway", values_of("gateway", "everything")), "ConfigMap")
    (tmp_path / "gateway.toml").write_text(written["data"]["gateway.toml"], "utf-8")
    settings = gateway_settings.load(tmp_path / "gateway.toml")
    assert settings.forget_after_days == 90
    assert settings.anchor_file == "/var/lib/lantai/anchor.jsonl"
    assert settings.stamp_authority == "https://tsa.example/rfc3161"


@pytest.mark.parametrize(
    ("authority", "port"),
    [
        ("http://tsa.example", 80),
        ("https://tsa.example/rfc3161", 443),
        ("http://tsa.example:318/a:9", 318),
        ("http://[fd00::1]/", 80),
        ("", None),
    ],
)
def test_the_log_may_be_stamped_by_its_authority_and_nothing_else_is_opened(render, authority, port):
    def leaves_to(stamps):
        values = _changed(values_of("gateway", "minimal"), stamps=stamps)
        values["networkPolicy"] = {"stampsTo": [{"cidr": "10.5.0.0/16"}]}
        (policy,) = of_kind(render("gateway", values), "NetworkPolicy")
        return policy["spec"]["egress"]

    before = leaves_to({})
    stamped = {
        "ports": [{"port": port, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.5.0.0/16"}}]
    }  # fmt: skip
    after = leaves_to({"authority": authority, "existingConfigMap": "tsa-roots"})
    assert [rule for rule in after if rule not in before] == ([stamped] if port else [])


@pytest.mark.parametrize("name", NODE)
def test_the_node_agent_reads_what_its_chart_writes(render, tmp_path, name):
    (written,) = of_kind(render("node-agent", values_of("node-agent", name)), "ConfigMap")
    text = written["data"]["archive.toml"]
    (tmp_path / "archive.toml").write_text(text, "utf-8")
    settings = node_settings.load(tmp_path)
    assert settings.name == values_of("node-agent", name)["archive"]["name"]
    assert settings.listen or settings.gateways
    assert tomllib.loads(text)["health_listen"].endswith(":9465")


def test_probes_ask_what_the_processes_answer(render):
    container = workload(render("gateway", values_of("gateway", "minimal")))["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    agent = workload(render("node-agent", values_of("node-agent", "dials out")))["spec"]["template"]["spec"][
        "containers"
    ][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert agent[probe]["grpc"] == {"port": 9465}


@pytest.mark.parametrize(
    ("chart", "name", "drain_s"),
    [
        ("gateway", "minimal", gateway_app._DRAIN_S + 5.0),  # the HTTP edge, then the case engine
        ("node-agent", "dials out", node_app._DRAIN_S + 1.0),
    ],
)
def test_the_grace_is_longer_than_the_drain(charts, chart, name, drain_s):
    values = charts[chart].merge_values(values_of(chart, name))
    assert values["terminationGracePeriodSeconds"] > values["preStopSeconds"] + drain_s


def test_one_replica_on_sqlite_keeps_its_volume_and_many_share_postgresql(render):
    alone = render("gateway", values_of("gateway", "minimal"))
    assert workload(alone)["kind"] == "StatefulSet"
    assert workload(alone)["spec"]["volumeClaimTemplates"]
    assert not of_kind(alone, "Job", "PodDisruptionBudget")
    many = render("gateway", values_of("gateway", "replicas"))
    assert workload(many)["spec"]["replicas"] == 3
    assert workload(many)["spec"]["volumeClaimTemplates"]  # each replica's evidence log outlives it
    (job,) = of_kind(many, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["command"][:3] == [
        "lantai-gateway",
        "db",
        "upgrade",
    ]
    assert of_kind(many, "PodDisruptionBudget")


@pytest.mark.parametrize("name", GATEWAY)
def test_the_evidence_log_has_its_pods_name_however_many_there_are(render, name):
    """Or the first replica would begin a new log, under a new key, when a second one comes."""
    pod = workload(render("gateway", values_of("gateway", name)))["spec"]["template"]["spec"]
    for container in pod["containers"] + pod["initContainers"]:
        (log_name,) = [one for one in container["env"] if one["name"] == "GW_LOG_NAME"]
        assert log_name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def _keep_log(render, folder, pod_name):
    """What the pod does before the gateway starts, in `folder` in the volume's place."""
    pod = workload(render("gateway", values_of("gateway", "minimal")))["spec"]["template"]["spec"]
    (command,) = [one["command"] for one in pod["initContainers"] if one["name"] == "keep-log"]
    *shell, script = command
    assert "/var/lib/lantai" in script
    subprocess.run(
        [*shell, script.replace("/var/lib/lantai", str(folder))],
        env={"PATH": "/usr/bin:/bin", "GW_LOG_NAME": pod_name},
        check=True,
        timeout=30,
    )


async def _logged(settings, base, event_id):
    """One event more in the log of these settings; its origin, and the ids of all that it holds."""
    log = gateway_app.open_log(settings, base)
    try:
        await log.note(Event(EventKind.CLOSED, event_id, 1, "case", {"outcome": "withdrawn"}))
        with LogReader(log.path) as reader:
            return log.origin, [entry.id for entry in reader.entries()]
    finally:
        log.close()


@pytest.mark.parametrize("moved", [[], ["log{}.key"], ["log{}.key", "log{}.key.sm-1.pem"]])
async def test_a_log_without_its_pods_name_is_given_it_and_goes_on(render, tmp_path, moved):
    """`moved`: what an earlier start had moved when it was interrupted."""
    pod_name = "demo-lantai-gateway-0"
    before, after = (GatewaySettings(data="data", log_name=name) for name in ("gateway", pod_name))
    origin, _ = await _logged(before, tmp_path, "1")
    data = tmp_path / "data"
    (data / "log.key.sm-1.pem").write_text("second")
    for name in moved:
        (data / name.format("")).rename(data / name.format(f"-{pod_name}"))
    for _ in range(2):  # at the next start there is nothing left to do
        _keep_log(render, data, pod_name)
    second = data / f"log-{pod_name}.key.sm-1.pem"
    assert second.read_text() == "second"
    second.unlink()  # no key that could sign
    assert await _logged(after, tmp_path, "2") == (origin, ["1", "2"])


async def test_a_log_of_its_pods_name_is_never_replaced(render, tmp_path):
    pod_name = "demo-lantai-gateway-0"
    before, after = (GatewaySettings(data="data", log_name=name) for name in ("gateway", pod_name))
    await _logged(before, tmp_path, "1")
    origin, _ = await _logged(after, tmp_path, "2")
    _keep_log(render, tmp_path / "data", pod_name)
    assert await _logged(after, tmp_path, "3") == (origin, ["2", "3"])
    assert (await _logged(before, tmp_path, "4"))[1] == ["1", "4"]


def test_the_runbook_tells_how_long_a_lease_is():
    text = " ".join((ROOT / "docs/runbooks/helm.md").read_text("utf-8").split())
    assert f"A replica that dies loses its leases after {LEASE_MS // 1000} s" in text


def test_archives_that_dial_in_reach_every_replica(render):
    manifests = render("gateway", values_of("gateway", "dialled"))
    links = [one for one in of_kind(manifests, "Service") if "-link-" in one["metadata"]["name"]]
    assert [one["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] for one in links] == [
        "demo-lantai-gateway-0",
        "demo-lantai-gateway-1",
    ]


def _changed(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """`values` with dotted paths set (a__b=1 sets a.b)."""
    new = copy.deepcopy(values)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = new
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    return new


WRONG = [
    ("gateway", "minimal", {"replicas": 2}, "replicas"),
    ("gateway", "minimal", {"store__kind": "postgresql"}, "existingSecret"),
    ("gateway", "minimal", {"store__kind": "oracle"}, "kind"),
    ("gateway", "minimal", {"certificate__existingSecret": ""}, "existingSecret"),
    ("gateway", "minimal", {"http__behindTlsProxy": False}, "existingSecret"),
    ("gateway", "minimal", {"roster__archives": []}, "archives"),
    ("gateway", "minimal", {"roster__existingSecret": "x"}, "archives"),
    ("gateway", "minimal", {"roster__archives": [{"code": "3304", "name": "x", "address": "a:1"}]}, "code"),
    ("gateway", "minimal", {"roster__archives": [{"code": "330400", "name": "x"}]}, "archives"),
    ("gateway", "dialled", {"link__enabled": False}, "enabled"),
    ("gateway", "minimal", {"replicaz": 1}, "replicaz"),
    ("gateway", "minimal", {"stamps__authority": "http://tsa.example"}, "existingConfigMap"),
    ("gateway", "minimal", {"stamps__authority": "tsa.example"}, "authority"),
    ("gateway", "minimal", {"http__servicePort": 1}, "servicePort"),
    ("gateway", "minimal", {"terminationGracePeriodSeconds": 10}, "terminationGracePeriodSeconds"),
    ("gateway", "minimal", {"image__digest": "latest"}, "digest"),
    ("node-agent", "dials out", {"gateways": []}, "gateways"),
    ("node-agent", "dials out", {"archive__code": ""}, "code"),
    ("node-agent", "dials out", {"archive__name": ""}, "name"),
    ("node-agent", "dials out", {"gateways": ["gateway"]}, "gateways"),
    ("node-agent", "dials out", {"desk__enabled": True}, "existingSecret"),
    ("node-agent", "dials out", {"replicas": 2}, "replicas"),
]


@pytest.mark.parametrize(("chart", "name", "changes", "named"), WRONG)
def test_wrong_values_are_refused_by_name(render, chart, name, changes, named):
    with pytest.raises(HelmValuesError, match=named):
        render(chart, _changed(values_of(chart, name), **changes))


def leaves(values: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(values, dict) and values:
        return [leaf for key, value in values.items() for leaf in leaves(value, (*path, key))]
    return [path]


@pytest.mark.parametrize("chart", ["gateway", "node-agent"])
def test_every_value_is_explained_and_has_an_effect(charts, chart):
    """Each key of values.yaml stands in the schema, and some value set shows that a template reads it."""
    defaults = yaml.safe_load((ROOT / "helm" / chart / "values.yaml").read_text("utf-8"))
    texts = "\n".join(one["data"] for one in charts[chart].templates)
    for path in leaves(defaults):
        place = charts[chart].schema
        for part in path:
            assert part in place["properties"], ".".join(path)
            place = place["properties"][part]
        is_passed_whole = any(
            f".Values.{'.'.join(path[:depth])} " in texts.replace("}}", " }}") for depth in (1, 2)
        )
        assert path[-1] in texts or is_passed_whole, ".".join(path)  # fmt: skip


@pytest.mark.parametrize(("chart", "name"), [("gateway", "replicas"), ("node-agent", "everything")])
def test_helm_itself_has_nothing_to_say(chart, name):
    report = lint(ROOT / "helm" / chart, values_of(chart, name), strict=True)
    assert report["errors"] == []
    assert not [one for one in report["messages"] if one["severity"] >= 2]
