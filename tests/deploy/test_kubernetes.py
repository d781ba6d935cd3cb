"""Kubernetes manifests: valid by their schemas, in agreement with the code and with Compose."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import redis
import yaml

from config.settings import WorkerSettings
from demo.stack import ROOT, running_redis
from producer.gateway.server import GRACE_S
from producer.gateway.settings import GatewaySettings
from producer.ledger.keys import Keys
from worker.processes.device_tree import ENGINE_GRACE_S

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
VERSION = "1.31"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
FLOWER_CONFIG = (ROOT / "config" / "flowerconfig.py").read_text()
DOCUMENTATION = (ROOT / "docs" / "kubernetes.md").read_text()
#: Fields of KEDA's resources that its documentation names, as far as the manifests use them.
KEDA_FIELDS = {
    "ScaledObject": {
        *("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval"),
        *("cooldownPeriod", "advanced", "triggers"),
    },
    "TriggerAuthentication": {"secretTargetRef"},
}
TRIGGER_FIELDS = {
    "redis": {"address", "listName", "listLength"},
    "metrics-api": {"url", "format", "valueLocation", "targetValue"},
}

Resource = dict[str, Any]


@cache
def resources(overlay: str) -> list[Resource]:
    """Return what `kubectl apply -k` would send."""
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize"]
    elif kustomize := shutil.which("kustomize"):
        command = [kustomize, "build"]
    else:
        pytest.skip("neither kubectl nor kustomize is installed: the overlays are not rendered")
    rendered = subprocess.run(
        [*command, str(FOLDER / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert rendered.returncode == 0, rendered.stderr
    return list(yaml.safe_load_all(rendered.stdout))


def of_kind(overlay: str, *kinds: str) -> Iterator[Resource]:
    return (resource for resource in resources(overlay) if resource["kind"] in kinds)


def workloads(overlay: str) -> dict[str, Resource]:
    return {
        item["metadata"]["name"]: item for item in of_kind(overlay, "Deployment", "StatefulSet")
    }


def pod_of(workload: Resource) -> Resource:
    pod: Resource = workload["spec"]["template"]["spec"]
    return pod


def container_of(workload: Resource) -> Resource:
    (container,) = pod_of(workload)["containers"]
    assert isinstance(container, dict)
    return container


def selects(selector: Resource, labels: dict[str, str]) -> bool:
    rules = selector.get("matchExpressions", [])
    assert all(rule["operator"] == "In" for rule in rules)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(rule["key"]) in rule["values"] for rule in rules
    )


def labels_of(workload: Resource) -> dict[str, str]:
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_is_valid(overlay: str) -> None:
    for resource in resources(overlay):
        assert resource["metadata"].get("namespace", "blipline") == "blipline"
        if resource["apiVersion"].startswith("keda.sh/"):
            assert resource["spec"].keys() <= KEDA_FIELDS[resource["kind"]]
        else:
            kubernetes_validate.validate(resource, VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_satisfy_the_restricted_standard_and_write_only_to_volumes(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        pod, container = pod_of(workload), container_of(workload)
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes = [volume["name"] for volume in pod.get("volumes", [])]
        volumes += [claim["metadata"]["name"] for claim in claims]
        assert sorted(volumes) == sorted(mount["name"] for mount in container["volumeMounts"])
        if name != "redis":
            uid = re.findall(r"useradd --uid (\d+)", (ROOT / "Dockerfile").read_text())[0]
            assert pod["securityContext"]["runAsUser"] == int(uid)
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_reference_leads_to_a_resource(overlay: str) -> None:
    names = {(item["kind"], item["metadata"]["name"]) for item in resources(overlay)}
    pods = list(workloads(overlay).values())
    for workload in pods:
        assert selects(workload["spec"]["selector"], labels_of(workload))
        container = container_of(workload)
        for source in container.get("envFrom", []):
            assert ("ConfigMap", source["configMapRef"]["name"]) in names
        for volume in pod_of(workload).get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in names
        for variable in container.get("env", []):
            if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert secret["name"] == "blipline"
                assert f"--from-literal={secret['key']}=" in DOCUMENTATION
    for service in of_kind(overlay, "Service"):
        (target,) = [
            workload
            for workload in pods
            if selects({"matchLabels": service["spec"]["selector"]}, labels_of(workload))
        ]
        ports = {port["name"]: port["containerPort"] for port in container_of(target)["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        assert any(selects(budget["spec"]["selector"], labels_of(workload)) for workload in pods)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_network_policies_close_every_pod_and_open_ports_that_exist(overlay: str) -> None:
    policies = {
        item["metadata"]["name"]: item["spec"] for item in of_kind(overlay, "NetworkPolicy")
    }
    pods = workloads(overlay)
    for workload in pods.values():
        assert selects(policies["closed"]["podSelector"], labels_of(workload))
    assert "ingress" not in policies["closed"]
    assert "egress" not in policies["closed"]
    for spec in policies.values():
        chosen = [pod for pod in pods.values() if selects(spec["podSelector"], labels_of(pod))]
        assert chosen
        names = {port["name"] for pod in chosen for port in container_of(pod)["ports"]}
        for rule in spec.get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= names
    assert "flower" not in policies


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_variable_is_a_setting(overlay: str) -> None:
    fields = {*WorkerSettings.model_fields, *GatewaySettings.model_fields}
    known = {f"BLIPLINE_{name.upper()}" for name in fields}
    known |= set(re.findall(r"BLIPLINE_FLOWER_[A-Z]+", FLOWER_CONFIG))
    variables = {
        variable["name"]
        for workload in workloads(overlay).values()
        for variable in container_of(workload).get("env", [])
    }
    for config in of_kind(overlay, "ConfigMap"):
        variables |= config["data"].keys()
    assert variables - known == {"REDIS_PASSWORD", "REDISCLI_AUTH"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_commands_and_probes_are_those_of_compose(overlay: str) -> None:
    pods = workloads(overlay)
    for name in ("gateway", "flower"):
        container = container_of(pods[name])
        assert container["args"] == shlex.split(COMPOSE[name]["command"])
        url = COMPOSE[name]["healthcheck"]["test"][-1]
        assert f"{container['livenessProbe']['httpGet']['path']}'" in url
        assert f":{container['ports'][0]['containerPort']}/" in url
    probe = container_of(pods["redis"])["readinessProbe"]["exec"]["command"][-1]
    assert probe == COMPOSE["redis"]["healthcheck"]["test"][-1]
    worker = container_of(pods["worker"])
    _, *check = COMPOSE["worker"]["healthcheck"]["test"]
    assert worker["readinessProbe"]["exec"]["command"] == check
    assert worker["startupProbe"]["exec"]["command"] == check
    assert worker["livenessProbe"]["exec"]["command"] == [*check, "--live"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_killed_only_after_their_own_limits(overlay: str) -> None:
    pods = {name: pod_of(workload) for name, workload in workloads(overlay).items()}
    drain_s = WorkerSettings.model_fields["grace_s"].default + ENGINE_GRACE_S
    assert pods["worker"]["terminationGracePeriodSeconds"] > drain_s
    hook = pods["gateway"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert pods["gateway"]["terminationGracePeriodSeconds"] > int(hook[-1]) + GRACE_S


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_redis_has_the_directives_of_its_configuration_file_and_accepts_them(overlay: str) -> None:
    program, *options = container_of(workloads(overlay)["redis"])["args"]
    assert program == "redis-server"
    lines = (ROOT / "config" / "redis.conf").read_text().splitlines()
    directives = {f"--{line}" for line in lines if line and not line.startswith("#")}
    assert directives == set(options[: len(directives)])
    assert [option.split()[0] for option in options[len(directives) :]] == [
        "--maxmemory",
        "--requirepass",
    ]
    # Kubernetes replaces the variable; here, there is no password.
    options = [option.replace("$(REDISCLI_AUTH)", '""') for option in options]
    with running_redis(None, *options) as url, redis.Redis.from_url(url) as client:
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("maxmemory") == {"maxmemory": str(8 * 2**30)}


def test_the_gpu_overlay_gives_each_worker_a_gpu_and_leaves_their_number_to_keda() -> None:
    worker = workloads("gpu")["worker"]
    assert container_of(worker)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container_of(worker)["image"] == COMPOSE["worker"]["image"]
    assert "replicas" not in worker["spec"]
    (scaled,) = of_kind("gpu", "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"] == {"name": "worker"}
    assert scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]


def test_the_workers_scale_with_the_open_jobs_and_with_their_wait() -> None:
    (scaled,), (login,) = of_kind("gpu", "ScaledObject"), of_kind("gpu", "TriggerAuthentication")
    services = {item["metadata"]["name"]: item for item in of_kind("gpu", "Service")}
    depth, wait = scaled["spec"]["triggers"]
    for trigger in (depth, wait):
        assert trigger["metadata"].keys() <= TRIGGER_FIELDS[trigger["type"]]
    redis_port = services["redis"]["spec"]["ports"][0]["port"]
    assert depth["metadata"]["address"] == f"redis.blipline.svc:{redis_port}"
    prefix = next(of_kind("gpu", "ConfigMap"))["data"]["BLIPLINE_KEY_PREFIX"]
    assert depth["metadata"]["listName"] == Keys(prefix).open
    assert depth["authenticationRef"] == {"name": login["metadata"]["name"]}
    assert login["spec"]["secretTargetRef"] == [
        {"parameter": "password", "name": "blipline", "key": "redis-password"}
    ]
    gateway_port = services["gateway"]["spec"]["ports"][0]["port"]
    assert wait["metadata"]["url"] == f"http://gateway.blipline.svc:{gateway_port}/metrics"
