"""The files in cluster/ against Ray's own validators, the pin, and the code they point to."""

import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from pipelines.serve.config import ServeConfig

ROOT = Path(__file__).parent.parent.parent
CLUSTER = ROOT / "cluster"


def load(name):
    return yaml.safe_load((CLUSTER / name).read_text())


def ray_cluster(name):
    spec = load(name)["spec"]
    return spec.get("rayClusterSpec") or spec["rayClusterConfig"]


def groups(name):
    cluster = ray_cluster(name)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def serve_configs():
    return [load("serve.yaml"), yaml.safe_load(load("rayservice.yaml")["spec"]["serveConfigV2"])]


KUBERAY = ["rayjob.yaml", "rayservice.yaml"]
# The fields of KubeRay 1.7's ray.io/v1 that these files use; an unknown one is a typing error.
ALLOWED = {
    "RayJob": {
        "entrypoint", "submissionMode", "backoffLimit", "activeDeadlineSeconds",
        "preRunningDeadlineSeconds", "deletionStrategy", "rayClusterSpec", "runtimeEnvYAML",
        "metadata", "suspend",
    },
    "RayService": {
        "serveConfigV2", "rayClusterConfig", "upgradeStrategy", "excludeHeadPodFromServeSvc",
        "rayClusterDeletionDelaySeconds", "suspend",
    },
    "cluster": {
        "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions",
        "headGroupSpec", "workerGroupSpecs",
    },
    "group": {"groupName", "minReplicas", "maxReplicas", "replicas", "rayStartParams", "template"},
}  # fmt: skip


@pytest.mark.parametrize("config", serve_configs(), ids=["serve.yaml", "rayservice.yaml"])
def test_ray_serve_accepts_the_application(config):
    from ray.serve.schema import ServeDeploySchema

    (application,) = ServeDeploySchema.model_validate(config).applications
    module, _, name = application.import_path.partition(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert f"def {name}(" in source
    settings = {key: value for key, value in application.args.items() if key != "model"}
    ServeConfig(**settings)  # refuses a misspelt setting
    assert not {"host", "port"} & set(settings)


def test_the_ray_up_file_is_valid_to_ray():
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(load("ray-up.yaml"))
    validate_config(prepared)
    (node,) = prepared["available_node_types"].values()
    assert node["min_workers"] == len(prepared["provider"]["worker_ips"])


def test_every_ray_start_of_the_ray_up_file_asks_for_a_token():
    config = load("ray-up.yaml")
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [shlex.split(command) for command in commands if " start" in command]
    assert len(starts) == 2
    for start in starts:
        assert "RAY_AUTH_MODE=token" in start
        assert "RAY_AUTH_TOKEN_PATH=~/.rayline-token" in start
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_every_version_is_the_pinned_one():
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().split("\n")
        if "==" in line
    )
    assert pins["ray"] == version("ray")
    for name in KUBERAY:
        assert ray_cluster(name)["rayVersion"] == pins["ray"]
    texts = {path.name: path.read_text() for path in CLUSTER.iterdir()}
    assert set(re.findall(r"torch==([\d.]+\d)", "".join(texts.values()))) == {pins["torch"]}
    project = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[
        1
    ]
    assert set(re.findall(r"rayline:(\d[\w.]+)", "".join(texts.values()))) == {project}
    assert set(re.findall(r"Ray (\d+\.\d+\.\d+)", texts["README.md"])) == {pins["ray"]}


@pytest.mark.parametrize("name", KUBERAY)
def test_a_manifest_uses_only_fields_that_kuberay_has(name):
    manifest = load(name)
    assert manifest["apiVersion"] == "ray.io/v1"
    assert set(manifest["spec"]) <= ALLOWED[manifest["kind"]]
    assert set(ray_cluster(name)) <= ALLOWED["cluster"]
    for group in groups(name):
        assert set(group) <= ALLOWED["group"]
    assert len(manifest["metadata"]["name"]) <= 47  # KubeRay's limit for jobs and services


@pytest.mark.parametrize("name", KUBERAY)
def test_a_cluster_wants_a_token_and_runs_nothing_on_its_head(name):
    cluster = ray_cluster(name)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["autoscalerOptions"]["version"] == "v2"


@pytest.mark.parametrize("name", KUBERAY)
def test_pods_are_sized_unprivileged_and_have_shared_memory_for_the_object_store(name):
    for group in groups(name):
        pod = group["template"]["spec"]
        assert pod["restartPolicy"] == "Never"  # autoscaler v2 accepts no other
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        memory = int(container["resources"]["limits"]["memory"].removesuffix("Gi"))
        assert volumes["shm"]["medium"] == "Memory"
        # Ray takes 30 % of the memory for its object store.
        assert int(volumes["shm"]["sizeLimit"].removesuffix("Gi")) >= 0.3 * memory


def test_the_job_runs_a_workflow_that_exists_with_options_the_command_line_has():
    entrypoint = shlex.split(load("rayjob.yaml")["spec"]["entrypoint"])
    assert entrypoint[:2] == ["python", "-m"]
    assert (ROOT / f"{entrypoint[2].replace('.', '/')}.py").is_file()
    cli = (ROOT / "pipelines" / "cli.py").read_text()
    for option in entrypoint[3::2]:
        assert f'"{option}"' in cli or f"{option.removeprefix('--')}: " in cli


def test_the_job_keeps_a_failed_cluster_longer_than_a_successful_one():
    spec = load("rayjob.yaml")["spec"]
    rules = {
        (rule["policy"], rule["condition"]["jobStatus"]): rule["condition"]["ttlSeconds"]
        for rule in spec["deletionStrategy"]["deletionRules"]
    }
    assert rules["DeleteCluster", "SUCCEEDED"] < rules["DeleteCluster", "FAILED"]
    # KubeRay refuses a job that has both kinds of clean-up.
    assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished"} & set(spec)


def test_no_secret_stands_in_a_file():
    for path in CLUSTER.iterdir():
        text = path.read_text()
        assert not re.search(r"(?i)(secret_access_key|password|auth_token)\s*[:=]\s*['\"]?\w", text)


def test_the_image_is_built_from_files_that_exist_and_runs_as_no_root():
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    sources = [
        s
        for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE)
        for s in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
    assert re.search(r"^USER (?!root)", dockerfile, re.MULTILINE)
    assert re.search(r"^FROM python:3\.11-slim$", dockerfile, re.MULTILINE)


def test_the_upload_of_a_job_leaves_out_what_is_large_or_private():
    ignored = (ROOT / ".rayignore").read_text().split()
    assert {".git", ".venv", "runs"} <= set(ignored)
