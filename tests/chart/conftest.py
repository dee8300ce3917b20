"""Charts rendered offline by Helm's own library; manifests checked against the schemas of Kubernetes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python.chart import Chart

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = "1.30"

GATEWAY: dict[str, dict[str, Any]] = {
    "minimal": {
        "certificate": {"existingSecret": "gateway-tls"},
        "http": {"behindTlsProxy": True},
        "roster": {
            "archives": [{"code": "330483", "name": "桐乡市档案馆", "address": "tongxiang.example:7443"}]
        },
    },
    "replicas": {
        "replicas": 3,
        "certificate": {"existingSecret": "gateway-tls"},
        "signingKey": {"existingSecret": "gateway-signing"},
        "clients": {"existingSecret": "gateway-clients"},
        "store": {"kind": "postgresql", "postgresql": {"existingSecret": "gateway-db", "caKey": "ca"}},
        "http": {"tls": {"existingSecret": "gateway-http"}},
        "roster": {
            "epoch": 4,
            "archives": [
                {"code": "330400", "name": '嘉兴市"档案馆"', "address": "[fd00::1]:7443", "authority": 2},
                {"code": "330483", "name": "桐乡市档案馆", "address": "b.example:7444", "deputy": "330400"},
            ],
        },
        "networkPolicy": {"httpFrom": [{"namespace": "ingress"}], "postgresqlTo": [{"cidr": "10.0.0.0/8"}]},
    },
    "dialled": {
        "replicas": 2,
        "certificate": {"existingSecret": "gateway-tls"},
        "signingKey": {"existingSecret": "gateway-signing"},
        "store": {"kind": "postgresql", "postgresql": {"existingSecret": "gateway-db"}},
        "http": {"behindTlsProxy": True},
        "link": {"enabled": True, "service": {"type": "LoadBalancer", "annotations": {"zone": "a"}}},
        "roster": {"archives": [{"code": "330482", "name": "平湖市档案馆", "dialsIn": True}]},
    },
    "secret roster": {
        "certificate": {"existingSecret": "gateway-tls"},
        "http": {"behindTlsProxy": True},
        "roster": {"existingSecret": "gateway-roster"},
        "networkPolicy": {"archives": {"ports": [7443]}},
    },
    "everything": {
        "image": {
            "repository": "registry.example/lantai", "digest": "sha256:" + "0" * 64, "pullSecrets": ["pull"]
        },
        "certificate": {"existingSecret": "gateway-tls"},
        "signingKey": {"existingSecret": "gateway-signing"},
        "clients": {"existingSecret": "gateway-clients"},
        "http": {"tls": {"existingSecret": "gateway-http"}, "service": {"annotations": {"a": "b"}}},
        "link": {"enabled": True},
        "roster": {
            "archives": [
                {"code": "330482", "name": "平湖市档案馆", "dialsIn": True, "staleAfterSeconds": 86400},
                {"code": "330483", "name": "桐乡市档案馆", "address": "b.example:7444"},
            ]
        },
        "data": {"storageClass": "local"},
        "trustList": {"existingConfigMap": "trust"},
        "stamps": {"authority": "https://tsa.example/rfc3161", "existingConfigMap": "tsa-roots"},
        "settings": 'forget_after_days = 90\nanchor_file = "/var/lib/lantai/anchor.jsonl"\n',
        "webhookKey": {"existingSecret": "webhook"},
        "networkPolicy": {
            "httpFrom": [{"namespace": "ingress", "podLabels": {"app": "nginx"}}, {"cidr": "10.1.0.0/16"}],
            "metricsFrom": [{"namespace": "monitoring"}],
            "linkFrom": [{"cidr": "10.2.0.0/16"}],
            "webhooks": {"to": [{"cidr": "10.3.0.0/16"}]},
            "stampsTo": [{"cidr": "10.5.0.0/16"}],
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "serverName": "gateway"},
        "podLabels": {"team": "archives"},
        "podAnnotations": {"note": "x"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "priorityClassName": "high",
    },
}  # fmt: skip
NODE: dict[str, dict[str, Any]] = {
    "dials out": {
        "archive": {"code": "330482", "name": "平湖市档案馆"},
        "certificate": {"existingSecret": "node-tls"},
        "gateways": ["gateway-0.example:7443", "gateway-1.example:7444"],
    },
    "is dialled": {
        "archive": {"code": "330483", "name": '桐乡市"档案馆"'},
        "certificate": {"existingSecret": "node-tls"},
        "listen": {"enabled": True},
        "networkPolicy": {"listenFrom": [{"cidr": "10.0.0.0/8"}]},
    },
    "everything": {
        "image": {"tag": "1", "pullSecrets": ["pull"]},
        "archive": {"code": "330483", "name": "桐乡市档案馆"},
        "certificate": {"existingSecret": "node-tls"},
        "federationKey": {"existingSecret": "federation"},
        "gateways": ["gateway.example:7443"],
        "listen": {"enabled": True, "service": {"type": "NodePort", "annotations": {"a": "b"}}},
        "desk": {
            "enabled": True,
            "tls": {"existingSecret": "desk-tls"},
            "service": {"annotations": {"a": "b"}},
            "from": [{"namespace": "office"}],
        },
        "settings": "[release]\nenabled = false\n",
        "closedCategories": ["adoption"],
        "data": {"storageClass": "local"},
        "networkPolicy": {
            "gatewaysTo": [{"cidr": "10.0.0.0/8"}],
            "metricsFrom": [{"namespace": "monitoring"}],
            "probesFrom": [{"cidr": "10.4.0.0/16"}],
            "webhooks": {"ports": [443], "to": [{"cidr": "10.3.0.0/16"}]},
            "timeStamps": {"ports": [318], "to": [{"cidr": "10.5.0.0/16"}]},
        },
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podLabels": {"team": "archives"},
        "podAnnotations": {"note": "x"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "priorityClassName": "high",
    },
}
SETS = [("gateway", name) for name in GATEWAY] + [("node-agent", name) for name in NODE]


def values_of(chart: str, name: str) -> dict[str, Any]:
    return copy.deepcopy((GATEWAY if chart == "gateway" else NODE)[name])


@pytest.fixture(scope="session")
def charts():
    return {name: Chart.load(ROOT / "helm" / name) for name in ("gateway", "node-agent")}


@pytest.fixture(scope="session")
def render(charts):
    """(chart, values) -> list of manifests; the values are held to the schema first, as an install does."""

    def rendered(chart: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        charts[chart].validate_schema(values)
        texts = charts[chart].render(values, name="demo", namespace="lantai")
        found = []
        for path, text in sorted(texts.items()):
            if path.endswith(".yaml"):
                found += [one for one in yaml.safe_load_all(text) if one]
        return found

    return rendered


def validate(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def of_kind(manifests: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [one for one in manifests if one["kind"] in kinds]
