// A person with a browser: signs in by a provider, reads the question, says yes.

import assert from "node:assert/strict";

export const issuer = process.env.WEIR_ISSUER;
export const back = "https://app.example/callback";

export async function register(app) {
  const response = await fetch(`${issuer}/api/oauth_apps`, {
    method: "POST",
    headers: { authorization: `Bearer ${process.env.WEIR_DEVELOPER}` },
    body: JSON.stringify({ name: "node", redirect_uris: [back], ...app }),
  });
  assert.equal(response.status, 200);
  return (await response.json()).data;
}

// There and back, once: what the browser shows from then on.
let session;
async function signedIn() {
  const cookies = (answer) => answer.headers.getSetCookie().map((line) => line.split(";")[0]).join("; ");
  const away = await fetch(`${issuer}/auth/oidc`, { redirect: "manual" });
  assert.equal(away.status, 303);
  const there = await fetch(away.headers.get("location"), { redirect: "manual" });
  const back = await fetch(there.headers.get("location"), { headers: { cookie: cookies(away) }, redirect: "manual" });
  assert.equal(back.status, 200, await back.clone().text());
  return cookies(back);
}

// Where the browser is sent in the end.
export async function agrees(url) {
  session ??= await signedIn();
  const headers = { cookie: session };
  const page = await fetch(url, { headers, redirect: "manual" });
  if (page.status === 303) return new URL(page.headers.get("location"));
  const text = await page.text();
  assert.equal(page.status, 200, text);
  const ticket = /name="ticket" value="([^"]+)"/.exec(text)[1];
  const action = /<form method="post" action="([^"]+)"/.exec(text)[1];
  const body = new URLSearchParams({ ticket, answer: "yes" });
  const answer = await fetch(new URL(action, url), { method: "POST", headers, body, redirect: "manual" });
  assert.equal(answer.status, 303);
  return new URL(answer.headers.get("location"));
}

export async function asks(token) {
  const response = await fetch(`${issuer}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content: "hello" }] }),
  });
  await response.text();
  return response.status;
}
