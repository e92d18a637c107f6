"""Authlib against Weir: everything but the issuer's address comes from the metadata. The person signs in and sends a form."""

import html
import json
import os
import re
import urllib.parse
import urllib.request

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from joserfc import jwk, jwt

ISSUER = os.environ["WEIR_ISSUER"]
BACK = "https://app.example/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def fetch(url, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.load(answer)


def register(is_public):
    app = {"name": "authlib", "redirect_uris": [BACK], "is_public": is_public}
    bearer = f"Bearer {os.environ['WEIR_DEVELOPER']}"
    return fetch(f"{ISSUER}/api/oauth_apps", app, authorization=bearer)["data"]


def person(url):
    """Signs in, reads the question and says yes: where the browser is sent then."""
    with requests.Session() as browser:
        browser.headers["accept"] = "text/html"
        page = browser.get(url)
        # Nobody is signed in: by the page's link to the provider, which sends back here.
        page = browser.get(urllib.parse.urljoin(page.url, html.unescape(re.search(r'href="(/auth/oidc[^"]*)"', page.text).group(1))))
        assert page.status_code == 200 and page.url.startswith(f"{ISSUER}/api/oauth2/authorize"), page.text
        ticket = html.unescape(re.search(r'name="ticket" value="([^"]+)"', page.text).group(1))
        action = re.search(r'<form method="post" action="([^"]+)"', page.text).group(1)
        answer = browser.post(
            urllib.parse.urljoin(url, action), data={"ticket": ticket, "answer": "yes"}, allow_redirects=False)
        assert answer.status_code == 200, answer.text
        return html.unescape(re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.text).group(1))


def refused(work, *errors):
    try:
        work()
    except OAuthError as wrong:
        assert wrong.error in errors, wrong
    else:
        raise AssertionError("not refused")


def dance(metadata, is_public, method):
    app = register(is_public)
    client = OAuth2Session(
        app["client_id"], app.get("client_secret"), token_endpoint_auth_method=method, scope="profile balance chat",
        redirect_uri=BACK, code_challenge_method="S256", revocation_endpoint_auth_method=method)
    url, state = client.create_authorization_url(metadata["authorization_endpoint"], code_verifier=VERIFIER)
    back = person(url)
    answer = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(back).query))
    assert answer["iss"] == metadata["issuer"] and answer["state"] == state
    trade = lambda: client.fetch_token(
        metadata["token_endpoint"], authorization_response=back, state=state, code_verifier=VERIFIER)
    first = trade()
    assert first["scope"] == "profile balance chat" and first["expires_in"] == 7200, first
    keys = jwk.KeySet.import_key_set(fetch(metadata["jwks_uri"]))
    claims = jwt.decode(first["access_token"], keys, algorithms=["ES256"]).claims
    jwt.JWTClaimsRegistry(exp={"essential": True}).validate(claims)
    assert claims["iss"] == claims["aud"] == metadata["issuer"] and claims["client_id"] == app["client_id"]
    info = client.get(metadata["userinfo_endpoint"]).json()
    assert info["sub"] == claims["sub"] and info["name"] == "Ann Lee" and info["balance"]["unlimited"] is True, info
    question = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    asked = lambda: client.post(f"{ISSUER}/v1/chat/completions", json=question)
    assert asked().json()["choices"][0]["message"]["content"]
    second = client.refresh_token(metadata["token_endpoint"], refresh_token=first["refresh_token"])
    assert second["refresh_token"] != first["refresh_token"]
    assert asked().status_code == 200
    if not is_public:
        told = client.introspect_token(metadata["introspection_endpoint"], token=second["access_token"]).json()
        assert told["active"] is True and told["sub"] == claims["sub"], told
    assert client.revoke_token(metadata["revocation_endpoint"], token=second["refresh_token"]).status_code == 200
    assert asked().status_code == 401
    refused(lambda: client.refresh_token(metadata["token_endpoint"], refresh_token=second["refresh_token"]), "invalid_grant")
    refused(trade, "invalid_grant")


def main():
    metadata = AuthorizationServerMetadata(fetch(get_well_known_url(ISSUER, external=True)))
    # Its own validation wants https; the rest holds for a test on this machine, too.
    for part in ("response_types_supported", "response_modes_supported", "grant_types_supported",
                 "token_endpoint_auth_methods_supported", "revocation_endpoint_auth_methods_supported",
                 "introspection_endpoint_auth_methods_supported", "code_challenge_methods_supported"):
        getattr(metadata, f"validate_{part}")()
    assert metadata["issuer"] == ISSUER
    ways = [(True, "none"), (False, "client_secret_basic"), (False, "client_secret_post")]
    for is_public, method in ways:
        dance(metadata, is_public, method)
    print(f"authlib: {len(ways)} passed, 0 failed")


main()
