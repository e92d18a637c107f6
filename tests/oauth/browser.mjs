// The script for browsers, as the gateway serves it, in a window that is made up: a pop-up that goes where it is sent, a callback
// page, and strangers who send messages.

import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import vm from "node:vm";

import { agrees, asks, back, issuer, register } from "./person.mjs";

const origin = new URL(back).origin;
const served = await fetch(`${issuer}/sdk/weir-oauth.js`);
assert.match(served.headers.get("content-type"), /^text\/javascript/);
const script = await served.text();
const code = script.replace(/^\s*\/\/.*$/gm, "");
assert.ok(!/localStorage|sessionStorage|document\.cookie|client_secret|indexedDB/.test(code), "tokens stay in memory");

// What a page of `origin` has. `led` says what happens to a pop-up that is sent somewhere.
function page(led, href = `${origin}/`) {
  const listeners = new Set();
  const sent = [];
  const page = {
    URL, URLSearchParams, TextEncoder, Uint8Array, Promise, Error, String, Number, Object, btoa, performance,
    crypto: webcrypto,
    setInterval, clearInterval, setTimeout, clearTimeout,
    location: new URL(href),
    history: { replaceState: (_state, _title, path) => (page.replaced = path) },
    addEventListener: (kind, listener) => kind === "message" && listeners.add(listener),
    removeEventListener: (_kind, listener) => listeners.delete(listener),
    hear: (event) => [...listeners].forEach((listener) => listener(event)),
    fetch: (url, options) => {
      sent.push({ url: String(url), options });
      return fetch(url, { ...options, referrerPolicy: undefined });
    },
    sent,
    listeners,
    open: () => {
      const popup = { closed: false, close: () => (popup.closed = true), location: { replace: (to) => led(new URL(to), popup, page) } };
      page.popup = popup;
      return popup;
    },
  };
  page.globalThis = page;
  vm.runInNewContext(script, vm.createContext(page));
  return page;
}

// The callback page in the pop-up: our own script hands its query over.
function callback(url, opener, popup) {
  const window = page(() => {}, url.href);
  window.opener = {
    postMessage: (data, target) => {
      assert.equal(target, origin, "to nobody but the app's own origin");
      opener.hear({ data, origin, source: popup });
    },
  };
  window.close = () => (popup.closed = true);
  assert.equal(window.WeirOAuth.finish(), true);
  assert.equal(window.replaced, "/callback", "the code does not stay in the address");
}

const app = await register({ is_public: true });
const settings = { issuer, clientId: app.client_id, redirectUri: back };

// The whole way, with strangers who speak up before the callback page does.
const whole = page(async (url, popup, opener) => {
  assert.equal(url.searchParams.get("code_challenge_method"), "S256");
  const query = `code=stolen&state=${url.searchParams.get("state")}&iss=${issuer}`;
  opener.hear({ data: { from: "weir-oauth", query }, origin: "https://evil.example", source: popup });
  opener.hear({ data: { from: "weir-oauth", query }, origin, source: {} });
  opener.hear({ data: "weir-oauth", origin, source: popup });
  opener.hear({ data: { from: "somebody", query }, origin, source: popup });
  callback(await agrees(url), opener, popup);
});
const weir = new whole.WeirOAuth(settings);
assert.equal(await weir.signIn("profile balance chat"), "profile balance chat");
assert.ok(whole.popup.closed && whole.listeners.size === 0 && weir.signedIn);
assert.equal((await weir.userinfo()).name, "Ann Lee");
assert.equal(await weir.topupUrl(), "https://pay.example/weir");
const token = await weir.accessToken();
assert.equal(await asks(token), 200);
assert.ok(whole.sent.every(({ options }) => options.credentials === "omit"), "never with cookies");
assert.ok(whole.sent.every(({ url }) => !url.includes("code")), "never in a URL");
await weir.signOut();
assert.ok(!weir.signedIn);
assert.equal(await asks(token), 401);

// Answers that are not to the question: nothing is sent to the token endpoint.
for (const [name, value, error] of [
  ["state", "other", "invalid_state"],
  ["iss", "https://evil.example", "invalid_issuer"],
  ["iss", null, "invalid_issuer"],
  ["error", "access_denied", "access_denied"],
  ["code", null, "invalid_response"],
]) {
  const window = page(async (url, popup, opener) => {
    const answer = await agrees(url);
    if (value === null) answer.searchParams.delete(name);
    else answer.searchParams.set(name, value);
    callback(answer, opener, popup);
  });
  const tried = new window.WeirOAuth(settings).signIn();
  await assert.rejects(tried, (wrong) => wrong.code === error, `${name}=${value}`);
  assert.deepEqual(window.sent, []);
}

// Signed out while tokens are renewed: what comes after signs nobody in again, and is dead.
const left = page(async (url, popup, opener) => callback(await agrees(url), opener, popup));
const leaving = new left.WeirOAuth(settings);
await leaving.signIn("profile chat");
left.performance = { now: () => performance.now() + 3 * 3600 * 1000 };
const [ask, hold] = [left.fetch, {}];
hold.over = new Promise((resolve) => (hold.end = resolve));
const came = new Promise((resolve) => {
  left.fetch = async (url, options) => {
    const response = await ask(url, options);
    if (String(url).endsWith("/token")) {
      resolve((await response.clone().json()).access_token);
      await hold.over;
    }
    return response;
  };
});
const outcome = assert.rejects(leaving.accessToken(), (wrong) => wrong.code === "signed_out");
const renewed = await came;
await leaving.signOut();
hold.end();
await outcome;
assert.ok(!leaving.signedIn);
assert.equal(await asks(renewed), 401);

const closed = page((_url, popup) => popup.close());
await assert.rejects(new closed.WeirOAuth(settings).signIn(), (wrong) => wrong.code === "popup_closed");
assert.throws(() => new closed.WeirOAuth({ ...settings, redirectUri: "https://evil.example/cb" }));
console.log("browser: 9 passed, 0 failed");
