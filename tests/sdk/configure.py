#!/usr/bin/env python3
"""Makes the configuration of the SDK tests out of config/examples/ten-platforms.yaml. Why out of the example: what we
tell people to try must be what the tests run. Changed are the ports; added are the three older wires and tenants with small
limits. With `fails` its accounts make room for one for each way to fail, so that a failure rests nobody else's account.

Usage: configure.py FAKE LISTEN ADMIN [fails]   (each an address with a port)"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLE = HERE.parent.parent / "config/examples/ten-platforms.yaml"

# Each has its account on every platform: what was done to it must not show in another case.
CASES = [
    "rate_limited", "quota_exhausted", "token_expired", "auth_invalid", "not_entitled", "overloaded", "bad_request",
    "content_filtered", "context_too_long", "server_error", "cut", "nofinish", "no_done", "midstream", "inband",
    "gone", "silent", "waiting", "html",
]
KEYS = {
    "openai": "api_key: sk-{case}", "claude": "api_key: sk-ant-{case}", "gemini": "api_key: AIza-{case}",
    "qwen": "api_key: sk-{case}", "zhipu": "api_key: {case}.secret", "doubao": "api_key: {case}",
    "baidu": "api_key: bce-v3/{case}", "spark": "api_key: {case}", "huggingface": "api_key: hf_{case}",
    "aihubmix": "api_key: sk-{case}", "dashscope": "api_key: sk-{case}",
    "baidu-v1": "access_key: {case}, secret_key: secret",
    "spark-ws": "app_id: '12345678', api_key: {case}, api_secret: {case}-secret",
}


def key_of(platform, case="older"):
    """The name under which the simulated platform counts the account."""
    fields = KEYS[platform].format(case=case).split(", ")
    wanted = "access_key" if platform == "baidu-v1" else "api_key"
    return next(field.split(": ")[1] for field in fields if field.startswith(wanted))


def failing(platforms):
    """One account for each way to fail, and none that takes every model: it would stand in for them."""
    for platform in platforms:
        name, model = platform["name"], platform["model"]
        for case in CASES:
            yield (f"  - {{id: {name}-{case}, platform: {name}, {KEYS[name].format(case=case)}, "
                   f"models: {{{case}: {model}}}}}\n")


def configuration(fake, listen, admin, fails):
    platforms = json.loads((HERE / "platforms.json").read_text())
    text = EXAMPLE.read_text().replace("127.0.0.1:9100", fake)
    older = {
        "dashscope": f"http://{fake}/dashscope/api/v1",
        "baidu-v1": f"http://{fake}/baidu-v1/rpc/2.0/ai_custom/v1/wenxinworkshop",
        "spark-ws": f"ws://{fake}/spark-ws",
    }
    rows = "".join(f'  {name}: {{base_url: "{url}"}}\n' for name, url in older.items())
    rows = rows.replace("wenxinworkshop\"", f"wenxinworkshop\", token_url: \"http://{fake}/baidu-v1/oauth/2.0/token\"")
    text = after(text, "platforms:", rows)
    if fails:
        start, end = text.index("\naccounts:\n"), text.index("\nroutes:\n")
        text = text[:start] + "\naccounts:\n" + "".join(failing(platforms)) + text[end:]
    else:
        more = (f"  - {{id: {name}-a, platform: {name}, {KEYS[name].format(case='older')}}}\n" for name in older)
        text = after(text, "accounts:", "".join(more))
        # Every case at once is more than people do.
        text = re.sub(r", limits: {[^}]*}", "", text)
    tenants = (
        "callers:\n  tenants:\n    sdk: {}\n    slow: {rpm: 60, burst: 1}\n    poor: {daily_tokens: 50}\n"
    )
    return f"listen: {listen}\nadmin_listen: {admin}\n{tenants}{text}"


def after(text, mark, more):
    assert text.count(f"\n{mark}\n") == 1, mark
    return text.replace(f"\n{mark}\n", f"\n{mark}\n{more}")


if __name__ == "__main__":
    sys.stdout.write(configuration(*sys.argv[1:4], fails=sys.argv[4:] == ["fails"]))
