#!/usr/bin/env python3
"""Runs what README.md and `weir demo` tell people to type, as it stands. Why: a first example that fails is the last one tried.

Usage: readme.py WEIR NODE_MODULES PYTHON…   (the binary; a folder that holds `openai`; interpreters that have `openai`)
Every ```yaml block goes through `weir check`. ```python, ```js and those ```sh blocks that speak to $WEIR_URL run against
`weir demo` and must print an answer; of the other ```sh blocks only the first word is looked at."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PATIENCE = 60


def blocks(text):
    """(language, content, line) of every fenced block."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S):
        yield found[1], found[2], text.count("\n", 0, found.start()) + 2


class Demo:
    """`weir demo` on a free port, until the block is left."""

    def __init__(self, weir):
        self.command = [weir, "demo", "--listen", "127.0.0.1:0"]

    def __enter__(self):
        self.child = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        self.said = ""
        for line in self.child.stdout:
            self.said += line
            if line.startswith("Models here"):
                break
        exports = dict(re.findall(r"^\s*export (\w+)=(\S+)$", self.said, re.M))
        assert {"WEIR_URL", "WEIR_TOKEN"} <= set(exports), f"no export lines in: {self.said}"
        self.exports = exports
        return self

    def __exit__(self, *_):
        # Asked, and not killed: it has a folder to clear away.
        self.child.terminate()
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def snippets(self):
        """The commands that it prints, as they would be copied from a terminal."""
        parts = self.said.split("Try it yourself", 1)[1].split("\n\n")[1:-1]
        for command in parts:
            if "export " not in command:
                yield "demo: " + command.split()[0], command


class Tally:
    def __init__(self):
        self.passed, self.failed, self.kinds = 0, 0, {}

    def run(self, name, command, wanted=None, **more):
        told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **more)
        good = told.returncode == 0 and (wanted is None or wanted in told.stdout)
        self.count(name, good, f"exit code {told.returncode}\n{told.stdout}{told.stderr}")

    def count(self, name, good, why=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"  FAILED {name}: {why[-2000:]}")

    def met(self, kind):
        self.kinds[kind] = self.kinds.get(kind, 0) + 1


def environment(**more):
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **more}


def check_yaml(tally, weir, content, name, folder):
    file = folder / "weir.yaml"
    file.write_text(content)
    secrets = {name: f"a-value-of-{name}-that-is-long-enough-0123456789" for name in re.findall(r"\$\{(\w+)\}", content)}
    tally.run(name, [weir, "check", "-c", str(file)], env=environment(**secrets))


def main(weir, modules, *pythons):
    weir = str(pathlib.Path(weir).resolve())
    tally, readme = Tally(), (ROOT / "README.md").read_text()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-readme-"))
    (folder / "node_modules").symlink_to(pathlib.Path(modules).resolve())
    # Each with its own `python3`, for commands that name it so.
    for number, python in enumerate(pythons):
        (folder / f"bin{number}").mkdir()
        (folder / f"bin{number}/python3").write_text(f'#!/bin/sh\nexec {pathlib.Path(python).absolute()} "$@"\n')
        (folder / f"bin{number}/python3").chmod(0o755)
    try:
        with Demo(weir) as demo:
            env = environment(**demo.exports)
            for language, content, line in blocks(readme):
                name = f"README.md:{line} {language}"
                if language == "yaml":
                    check_yaml(tally, weir, content, name, folder)
                elif language == "python":
                    for python in pythons:
                        tally.run(name, [python, "-c", content], "Hello", env=env)
                elif language == "js":
                    (folder / "snippet.mjs").write_text(content)
                    tally.run(name, ["node", str(folder / "snippet.mjs")], "Hello", env=env)
                elif language == "sh" and "$WEIR_URL" in content:
                    tally.run(name, ["bash", "-c", content], "Hello", env=env)
                    language = "curl" if "curl" in content else language
                elif language == "sh":
                    first = content.split()[0]
                    tally.count(name, shutil.which(first) or (ROOT / first).exists(), f"there is no {first}")
                tally.met(language)
            for number, _ in enumerate(pythons):
                path = f"{folder}/bin{number}:{os.environ['PATH']}"
                for name, command in demo.snippets():
                    tally.run(name, ["bash", "-c", command], "Hello", env={**env, "PATH": path}, cwd=folder)
                    tally.met("demo")
    finally:
        shutil.rmtree(folder)
    for kind in ("python", "js", "curl", "yaml", "demo"):
        tally.count(f"at least one snippet: {kind}", tally.kinds.get(kind, 0) > 0, "none found")
    print(f"README.md and demo: {tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
