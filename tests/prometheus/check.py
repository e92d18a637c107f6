"""Scrapes a running `weir demo` with a real Prometheus and compares what it says with what was sent."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ASKS = 7


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        return answer.read().decode()


def until(what, seconds=60):
    """Waits for `what()` to be true; servers take their time on a busy machine."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = what()
            if found:
                return found
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"not in {seconds} s: {what.__doc__}")
        time.sleep(0.2)


def configuration(folder, public, admin, fake):
    secret = "x" * 48
    text = f"""
listen: 127.0.0.1:{public}
admin_listen: 127.0.0.1:{admin}
store: memory
auth: {{jwt: [{{issuer: t, audience: weir, secret: {secret}, algorithms: [HS256]}}]}}
platforms: {{claude: {{base_url: "http://127.0.0.1:{fake}/claude/v1"}}}}
accounts: [{{id: a, platform: claude, api_key: sk-ant-a}}]
routes: [{{model: smart, targets: [{{platform: claude, model: claude-sonnet-4-5}}]}}]
"""
    path = folder / "weir.yaml"
    path.write_text(text)
    return path


def main(weir):
    public, admin, fake, prom = (free_port() for _ in range(4))
    children = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        config = configuration(folder, public, admin, fake)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            children.append(subprocess.Popen([weir, "fake", "--listen", f"127.0.0.1:{fake}"], **quiet))
            children.append(subprocess.Popen([weir, "serve", "-c", config], **quiet))

            def ready():
                """the gateway is ready"""
                return get(f"http://127.0.0.1:{admin}/readyz")

            until(ready)
            token = subprocess.check_output([weir, "token", "-c", config, "--sub", "t"], text=True).strip()
            body = json.dumps({"model": "smart", "messages": [{"role": "user", "content": "Hello"}]}).encode()
            for _ in range(ASKS):
                ask = urllib.request.Request(
                    f"http://127.0.0.1:{public}/v1/chat/completions",
                    data=body,
                    headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
                )
                urllib.request.urlopen(ask, timeout=10).read()
            lint(get(f"http://127.0.0.1:{admin}/metrics"))
            (folder / "prometheus.yml").write_text(
                "global: {scrape_interval: 1s}\n"
                f"scrape_configs: [{{job_name: weir, static_configs: [{{targets: ['127.0.0.1:{admin}']}}]}}]\n"
            )
            children.append(
                subprocess.Popen(
                    [
                        "prometheus",
                        f"--config.file={folder}/prometheus.yml",
                        f"--storage.tsdb.path={folder}/data",
                        f"--web.listen-address=127.0.0.1:{prom}",
                    ],
                    **quiet,
                )
            )
            check(prom)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait(timeout=20)


def lint(text):
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    if checked.returncode != 0:
        raise SystemExit(f"promtool: {checked.stdout}{checked.stderr}")


def query(prom, expression):
    answer = json.loads(get(f"http://127.0.0.1:{prom}/api/v1/query?query={urllib.parse.quote(expression)}"))
    return [float(row["value"][1]) for row in answer["data"]["result"]]


def check(prom):
    def scraped():
        """the gateway is up in Prometheus' eyes"""
        return query(prom, 'up{job="weir"}') == [1.0]

    until(scraped)

    def counted():
        """all requests are counted"""
        return query(prom, 'sum(weir_requests_total{route="smart",platform="claude",outcome="ok"})') == [float(ASKS)]

    until(counted)
    histogram = query(prom, "sum(weir_request_duration_seconds_count)")
    if histogram != [float(ASKS)]:
        raise SystemExit(f"the histogram counts {histogram}, not {ASKS}")
    print("3 passed, 0 failed")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
