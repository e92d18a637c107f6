// openid-client (whose author's server is a reference of the standard) against Weir: it finds everything in the metadata, and
// checks `iss`, `state` and what the answers look like by itself.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

import { agrees, asks, back, issuer, register } from "./person.mjs";

const require = createRequire(`${process.env.WEIR_MODULES}/`);
const client = await import(pathToFileURL(require.resolve("openid-client")));

async function dance(app, authentication) {
  const made = await register(app);
  const config = await client.discovery(new URL(issuer), made.client_id, made.client_secret, authentication(made.client_secret), {
    algorithm: "oauth2",
    execute: [client.allowInsecureRequests],
  });
  assert.ok(config.serverMetadata().supportsPKCE("S256"));
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const expectedState = client.randomState();
  const parameters = {
    redirect_uri: back,
    scope: "profile balance chat",
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
    state: expectedState,
  };
  const url = client.buildAuthorizationUrl(config, parameters);
  const answer = await agrees(url);
  const checks = { pkceCodeVerifier, expectedState };
  // Another verifier: refused, and the code is spent.
  const spoiled = await agrees(url);
  const wrong = { ...checks, pkceCodeVerifier: client.randomPKCECodeVerifier() };
  await assert.rejects(client.authorizationCodeGrant(config, spoiled, wrong), { error: "invalid_grant" });
  // Another issuer in the answer, or none: the client stops before the code goes anywhere.
  for (const iss of ["https://evil.example", null]) {
    const mixed = new URL(answer);
    if (iss) mixed.searchParams.set("iss", iss);
    else mixed.searchParams.delete("iss");
    await assert.rejects(client.authorizationCodeGrant(config, mixed, checks));
  }
  const first = await client.authorizationCodeGrant(config, answer, checks);
  assert.equal(first.token_type, "bearer");
  assert.equal(first.scope, "profile balance chat");
  const info = await client.fetchUserInfo(config, first.access_token, client.skipSubjectCheck);
  assert.equal(info.name, "Ann Lee");
  assert.equal(await asks(first.access_token), 200);
  const second = await client.refreshTokenGrant(config, first.refresh_token);
  assert.equal(await asks(second.access_token), 200);
  const less = await client.refreshTokenGrant(config, second.refresh_token, { scope: "profile" });
  assert.equal(less.scope, "profile");
  assert.equal(await asks(less.access_token), 403);
  if (made.client_secret) {
    assert.equal((await client.tokenIntrospection(config, less.access_token)).active, true);
  }
  await client.tokenRevocation(config, less.refresh_token);
  if (made.client_secret) {
    assert.deepEqual(await client.tokenIntrospection(config, less.access_token), { active: false });
  }
  await assert.rejects(client.refreshTokenGrant(config, less.refresh_token), { error: "invalid_grant" });
  assert.equal(await asks(second.access_token), 401);
  // A refresh token that was used before ends the chain that it is of.
  const other = await client.authorizationCodeGrant(config, await agrees(url), checks);
  const next = await client.refreshTokenGrant(config, other.refresh_token);
  await assert.rejects(client.refreshTokenGrant(config, other.refresh_token), { error: "invalid_grant" });
  await assert.rejects(client.refreshTokenGrant(config, next.refresh_token), { error: "invalid_grant" });
  assert.equal(await asks(next.access_token), 401);
}

const ways = [
  [{ is_public: true }, () => client.None()],
  [{ is_public: false }, (secret) => client.ClientSecretPost(secret)],
  [{ is_public: false }, (secret) => client.ClientSecretBasic(secret)],
];
for (const [app, authentication] of ways) await dance(app, authentication);
console.log(`openid-client: ${ways.length} passed, 0 failed`);
