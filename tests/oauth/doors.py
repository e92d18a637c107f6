"""The configuration's part that lets people in by the simulated providers; and tells those where the gateway is."""

import json
import os
import urllib.request

FAKE, ISSUER = os.environ["WEIR_FAKE"], os.environ["WEIR_ISSUER"]
USUAL = {"authorize": "authorize_url", "token": "token_url", "refresh": "refresh_url", "userinfo": "userinfo_url"}
MORE = {"github": {"emails": "emails_url"}, "oidc": {"issuer": "issuer"}}


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{FAKE}/_fake/idp{path}", data)) as answer:
        return json.load(answer)


places, rows = ask(""), {}
for name in os.environ["WEIR_DOORS"].split():
    client = {"client_id": f"weir-{name}", "client_secret": f"secret-{name}"}
    tokens = {"issuer": "issuer", "jwks": "jwks_url"} if "jwks" in places[name] else {}
    # Of an issuer its address is enough.
    members = MORE["oidc"] if name == "oidc" else USUAL | MORE.get(name, tokens)
    rows[name] = client | {ours: places[name][theirs] for theirs, ours in members.items() if theirs in places[name]}
    ask(f"/{name}/clients", client | {"redirect_uris": [f"{ISSUER}/auth/{name}/callback"]})
ask("/oidc/settings", {"auto": "ann"})
print("oauth:", json.dumps({"providers": rows}))
print("sign_in:", json.dumps({"providers": list(rows), "admit": ["*"]}))
