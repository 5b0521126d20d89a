"""Checks the Kubernetes manifests, and runs their pods without Kubernetes.

    manifests.py STATIC-BINARY

1. Every object is valid, strictly, in the published schemas of Kubernetes 1.29 (native sidecars) to 1.37.
2. kubectl renders each folder to what its files say and to the ConfigMaps that its pods name: no kustomization changes a
   selector or a name behind their back.
3. What no schema knows: volumes, ports, selectors and files that are named exist, pods fit the "restricted" pod security
   standard, commands are ones that keyholder understands, configurations pass its check, times fit into each other.
4. Each pod's containers run in an empty root with the volumes as a kubelet lays them out (owners, modes, links): secrets
   are imported, probes answer, the application gets its token from a small platform over TLS, a changed ConfigMap is
   taken over, SIGTERM ends it well.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import kubernetes_validate
import yaml

from emptyroot import USER, Box, inner_process, own_network, platform

BINARY = pathlib.Path(sys.argv[1])
DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
FOLDER = DEPLOY / "kubernetes"
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
LOGIN = "login.mypurecloud.de"
KEYHOLDER = "registry.example.com/keyholder:"
# what keyholder needs after drain_delay and drain: notices 5 s, background work 8 s, the security log 3 s, telemetry 3 s,
# the log 2 s
END = 25


def objects(file):
    return [one for one in yaml.safe_load_all(file.read_text()) if one]


def folders():
    return sorted(kustomization.parent for kustomization in FOLDER.glob("*/kustomization.yaml"))


def manifests():
    """Every object, with the folder whose kustomization names its file."""
    for folder in folders():
        (made,) = objects(folder / "kustomization.yaml")
        named = {*made["resources"], "kustomization.yaml"}
        for generator in made.get("configMapGenerator", []):
            named.update(generator["files"])
        present = {path.name for path in folder.iterdir()}
        assert named == present, f"{folder.name}: {named ^ present}"
        for name in made["resources"]:
            for one in objects(folder / name):
                yield folder, one


def check_schema(one):
    for version in VERSIONS:
        kubernetes_validate.validate(one, version, strict=True)
    # a validator that accepts everything proves nothing
    try:
        kubernetes_validate.validate(one | {"specs": {}}, VERSIONS[-1], strict=True)
    except kubernetes_validate.ValidationError:
        return
    raise AssertionError("an unknown member is accepted")


def render(folder):
    """What `kubectl apply --kustomize` sends: the ConfigMaps by name, and all other objects."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, f"{folder.name}: {done.stderr}"
    made = [one for one in yaml.safe_load_all(done.stdout) if one]
    maps = {one["metadata"]["name"]: one for one in made if one["kind"] == "ConfigMap"}
    return maps, [one for one in made if one["kind"] != "ConfigMap"]


def differences(folder, written):
    """What of `folder` reaches the cluster otherwise than `written` says."""
    maps, others = render(folder)
    found = [f"{one['kind']} {one['metadata']['name']} is not as written" for one in written if one not in others]
    if len(others) != len(written):
        found.append(f"{len(others)} objects were made of {len(written)}")
    named = set()
    for pod in filter(None, map(pod_of, written)):
        named.update(volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if "configMap" in volume)
    if named != set(maps):
        found.append(f"the pods name the ConfigMaps {sorted(named)}, and there are {sorted(maps)}")
    return found


def check_rendered(all_objects):
    for folder in folders():
        written = [one for of, one in all_objects if of == folder]
        assert not differences(folder, written), f"{folder.name}: {differences(folder, written)}"
        maps, _ = render(folder)
        for one in maps.values():
            check_schema(one)
            assert one["data"] == {"keyholder.toml": (folder / "keyholder.toml").read_text()}, one
            labels = written[0]["metadata"].get("labels")
            assert one["metadata"].get("labels") == labels, f"{folder.name}: {labels} is not on its ConfigMap"
    # a comparison that finds nothing proves nothing
    gateway = [one for folder, one in all_objects if folder.name == "gateway"]
    with tempfile.TemporaryDirectory() as scratch:
        for name, was, becomes, found in [
            ("labels", "resources:", "commonLabels: {app.kubernetes.io/part-of: keyholder}\nresources:", "NetworkPolicy"),
            ("hash", "disableNameSuffixHash: true", "disableNameSuffixHash: false", "ConfigMaps"),
        ]:
            folder = shutil.copytree(FOLDER / "gateway", pathlib.Path(scratch) / name)
            kustomization = folder / "kustomization.yaml"
            text = kustomization.read_text()
            assert text.count(was) == 1, was
            kustomization.write_text(text.replace(was, becomes))
            assert any(found in one for one in differences(folder, gateway)), f"{name}: {differences(folder, gateway)}"


def pod_of(one):
    return one["spec"]["template"] if "template" in one.get("spec", {}) else None


def understood(words):
    """The parser refuses unknown commands and flags before it helps."""
    subprocess.run([BINARY, *words, "--help"], check=True, capture_output=True, env={})


def seconds(text):
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def check_pod(folder, one):
    spec = pod_of(one)["spec"]
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] and pod["runAsUser"] == USER and pod["fsGroup"] == USER, pod
    assert pod["seccompProfile"]["type"] == "RuntimeDefault" and spec["automountServiceAccountToken"] is False
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    claims = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
    if claims:
        assert pod["fsGroupChangePolicy"] == "OnRootMismatch", "the kubelet would open the state to the group"
    for volume in volumes.values():
        assert "secret" not in volume or volume["secret"]["defaultMode"] == 0o440, volume
    used = set()
    for container in spec.get("initContainers", []) + spec["containers"]:
        name = f"{folder.name}/{container['name']}"
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and security["capabilities"]["drop"] == ["ALL"], name
        assert security["allowPrivilegeEscalation"] is False, name
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= set(volumes) | claims, f"{name}: {mounted}"
        assert not any("subPath" in mount for mount in container["volumeMounts"]), f"{name}: a subPath never changes"
        used |= mounted
        if container["image"].startswith(KEYHOLDER):
            assert "command" not in container, name
            understood(container["args"])
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    program, *words = container[probe]["exec"]["command"]
                    assert program == "/usr/bin/keyholder", name
                    understood(words)
                    assert container[probe]["timeoutSeconds"] > 4, f"{name}: keyholder itself waits 4 s"
        else:
            secret = {volume for volume in mounted if "secret" in volumes[volume]}
            assert not secret, f"{name}: the application holds {secret}"
    assert used == set(volumes) | claims, f"{folder.name}: not mounted: {(set(volumes) | claims) - used}"
    sidecars = [one for one in spec.get("initContainers", []) if one.get("restartPolicy") == "Always"]
    assert folder.name == "gateway" or [one["name"] for one in sidecars] == ["keyholder"]
    assert all("startupProbe" in one for one in sidecars)
    config = (folder / "keyholder.toml").read_text()
    times = {"drain_delay": "0s", "drain": "20s"} | dict(re.findall(r'^(drain_delay|drain) = "(\w+)"$', config, re.M))
    grace = spec["terminationGracePeriodSeconds"]
    assert sum(map(seconds, times.values())) + END <= grace, (folder.name, times, grace)


def check_gateway(all_objects):
    """What joins the objects of the gateway."""
    by_kind = {one["kind"]: one for folder, one in all_objects if folder.name == "gateway"}
    assert set(by_kind) == {"StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"}, by_kind.keys()
    template = pod_of(by_kind["StatefulSet"])
    labels = template["metadata"]["labels"]
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    config = (FOLDER / "gateway/keyholder.toml").read_text()
    assert f'listen = ["0.0.0.0:{ports["https"]}"]' in config, ports
    selectors = [
        by_kind["StatefulSet"]["spec"]["selector"]["matchLabels"],
        by_kind["Service"]["spec"]["selector"],
        by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors), selectors
    assert by_kind["Service"]["spec"]["ports"][0]["targetPort"] in ports
    assert by_kind["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] in ports
    # the rules that wait for their `#` to be taken away
    policy = (FOLDER / "gateway/networkpolicy.yaml").read_text()
    allowed = yaml.safe_load(re.sub(r"^    #(?=-|  )", "    ", policy, flags=re.M))
    check_schema(allowed)
    rules = [rule["ports"] for rule in allowed["spec"]["egress"]]
    assert rules[:2] == [rule["ports"] for rule in by_kind["NetworkPolicy"]["spec"]["egress"]], rules
    assert [ports[0]["port"] for ports in rules[2:]] == [4318, 8200], rules
    assert by_kind["StatefulSet"]["spec"]["serviceName"] == by_kind["Service"]["metadata"]["name"]


class Kubelet:
    """Lays out volumes and runs containers, as far as the manifests need it."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "root"
        (self.root / "usr/bin").mkdir(parents=True)
        shutil.copy(BINARY, self.root / "usr/bin/keyholder")
        for place in ("proc", "dev", "etc/ssl/certs", "etc/keyholder", "run/secrets", "run/tls", "run/keyholder", "var/lib"):
            (self.root / place).mkdir(parents=True, exist_ok=True)
        for place in ("run/secrets/keyholder", "run/secrets/platform", "var/lib/keyholder"):
            (self.root / place).mkdir()
        for place in ("etc/hosts", "etc/ssl/certs/ca-certificates.crt"):
            (self.root / place).touch()
        self.hosts = folder / "hosts"
        self.hosts.write_text(f"127.0.0.1 localhost {LOGIN}\n")
        self.tls = folder / "tls"
        self.tls.mkdir()
        self.called = set()
        platform(self.tls, [LOGIN], 443, self.called)
        os.chmod(self.tls / "ca.pem", 0o444)
        self.count = 0

    def volume(self, volume, kustomized):
        """A folder with the owner, the modes and the links that a kubelet makes."""
        self.count += 1
        folder = self.folder / f"volume-{self.count}"
        folder.mkdir()
        if "configMap" in volume:
            self.project(folder, {"keyholder.toml": (kustomized / "keyholder.toml").read_bytes()}, 0o644)
        elif "secret" in volume:
            document = b'{"client_id": "an-id", "client_secret": "a-secret"}'
            contents = {
                "keyholder-store-key": {"store.key": b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY=\n"},
                "keyholder-platform": {"document.json": document},
                "keyholder-tls": {"tls.crt": (self.tls / "cert.pem").read_bytes(), "tls.key": (self.tls / "key.pem").read_bytes()},
            }
            self.project(folder, contents[volume["secret"]["secretName"]], volume["secret"]["defaultMode"])
        else:
            # an empty folder or a fresh disk, opened to the group
            os.chown(folder, 0, USER)
            folder.chmod(0o2777 if "emptyDir" in volume else 0o2775)
        return folder

    def project(self, folder, contents, mode):
        """Files behind two links; an update is one rename."""
        self.count += 1
        version = folder / f"..version-{self.count}"
        version.mkdir()
        for name, content in contents.items():
            (version / name).write_bytes(content)
            os.chown(version / name, 0, USER)
            (version / name).chmod(mode)
        (folder / "..new").symlink_to(version.name)
        (folder / "..new").rename(folder / "..data")
        for name in contents:
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")

    def pod(self, template, kustomized):
        spec = template["spec"]
        volumes = {volume["name"]: self.volume(volume, kustomized) for volume in spec["volumes"]}
        volumes.setdefault("state", None)
        if volumes["state"] is None:
            volumes["state"] = self.volume({}, kustomized)
        return Pod(self, spec, volumes)


class Pod:
    def __init__(self, kubelet, spec, volumes):
        self.kubelet, self.spec, self.volumes = kubelet, spec, volumes
        self.running = []

    def box(self, container):
        mounts = [
            ("--ro-bind", self.kubelet.hosts, "/etc/hosts"),
            ("--ro-bind", self.kubelet.tls / "ca.pem", "/etc/ssl/certs/ca-certificates.crt"),
        ]
        for mount in container["volumeMounts"]:
            how = "--ro-bind" if mount.get("readOnly") else "--bind"
            mounts.append((how, self.volumes[mount["name"]], mount["mountPath"]))
        environment = {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt", "KEYHOLDER_LOG_FORMAT": "json"}
        environment |= {variable["name"]: variable["value"] for variable in container.get("env", [])}
        if container["image"].startswith(KEYHOLDER):
            return Box(self.kubelet.root, mounts, environment)
        # the application's image is of somebody else: here it is this machine's own root
        shared = [mount for mount in mounts if mount[2] == "/run/keyholder"]
        box = Box("/", [], environment | {"PATH": os.environ["PATH"]})
        box.words += ["--tmpfs", "/run", *(word for mount in shared for word in map(str, mount))]
        return box

    def start(self, container, log):
        box = self.box(container)
        process = subprocess.Popen(box.command(*container["args"]), stdout=subprocess.DEVNULL, stderr=log.open("w"))
        self.running.append(process)
        if "startupProbe" in container:
            self.until_healthy(container, "startupProbe", process, log)
        return process

    def until_healthy(self, container, probe, process, log):
        _, *words = container[probe]["exec"]["command"]
        for _ in range(600):
            if subprocess.run(self.box(container).command(*words), capture_output=True).returncode == 0:
                return
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"{probe} never held: {log.read_text()}")

    def application(self, container):
        words = [*container["command"], *container["args"]]
        box = self.box(container)
        drop = box.command()[:-1]
        return subprocess.Popen([*drop, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stop(self, process, log):
        os.kill(inner_process(process), signal.SIGTERM)
        assert process.wait(timeout=90) == 0, log.read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()


def run_sidecar(kubelet, template, kustomized, ends):
    log = kubelet.folder / f"{kustomized.name}.log"
    kubelet.called.clear()
    with kubelet.pod(template, kustomized) as pod:
        served = None
        for container in pod.spec["initContainers"]:
            if container.get("restartPolicy") == "Always":
                served = pod.start(container, log)
            else:
                pod.box(container).run(*container["args"])
        (container,) = pod.spec["containers"]
        application = pod.application(container)
        if ends:
            out, errors = application.communicate(timeout=120)
            assert application.returncode == 0, f"{out}{errors}{log.read_text()}"
        else:
            for _ in range(600):
                if kubelet.called:
                    break
                assert application.poll() is None, application.communicate()
                time.sleep(0.05)
            assert application.poll() is None
            application.kill()
        assert kubelet.called == {LOGIN}, kubelet.called
        pod.stop(served, log)


def ask(port, path):
    """One request over TLS, whoever certified the other side."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: keyholder\r\nConnection: close\r\n\r\n".encode())
        return stream.makefile("rb").read().decode()


def run_gateway(kubelet, template):
    log = kubelet.folder / "gateway.log"
    with kubelet.pod(template, FOLDER / "gateway") as pod:
        (container,) = pod.spec["containers"]
        served = pod.start(container, log)
        pod.until_healthy(container, "readinessProbe", served, log)
        assert "keyholder.caller.unauthenticated" in ask(8443, "/api/v2/users/me")
        # as statefulset.yaml tells: into the running pod, by standard input
        document = '{"client_id": "an-id", "client_secret": "a-secret"}'
        pod.box(container).run("secret", "set", "acme-prod", input=document)
        config = (FOLDER / "gateway/keyholder.toml").read_bytes()
        changed = config.replace(b"eu-central-1", b"us-east-1")
        assert changed != config
        kubelet.project(pod.volumes["config"], {"keyholder.toml": changed}, 0o644)
        for _ in range(1200):
            if "the configuration was reloaded" in log.read_text():
                break
            assert served.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            raise AssertionError(f"the changed ConfigMap was not taken over: {log.read_text()}")
        pod.until_healthy(container, "livenessProbe", served, log)
        pod.stop(served, log)


def main():
    all_objects = list(manifests())
    for folder, one in all_objects:
        check_schema(one)
        if pod_of(one):
            check_pod(folder, one)
    check_rendered(all_objects)
    check_gateway(all_objects)
    with tempfile.TemporaryDirectory() as state:
        configurations = [*FOLDER.glob("*/keyholder.toml"), DEPLOY / "deb/keyholder.toml"]
        for config in configurations:
            checked = [BINARY, "check", "--syntax", "--config", config, "--state", state]
            done = subprocess.run(checked, capture_output=True, text=True, env={})
            assert done.returncode == 0 and "warning" not in done.stderr, f"{config}: {done.stderr}"
    print(f"  {len(all_objects)} objects are valid in {len(VERSIONS)} versions")
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        kubelet = Kubelet(folder)
        templates = {(path.name, one["kind"]): pod_of(one) for path, one in all_objects if pod_of(one)}
        run_sidecar(kubelet, templates["sidecar", "Deployment"], FOLDER / "sidecar", ends=False)
        run_sidecar(kubelet, templates["job", "Job"], FOLDER / "job", ends=True)
        run_gateway(kubelet, templates["gateway", "StatefulSet"])
    finally:
        shutil.rmtree(folder)
    print("  the pods of sidecar, job and gateway ran")


own_network()
main()
