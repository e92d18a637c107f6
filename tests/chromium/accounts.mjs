// A person at a real browser who brings accounts: by every provider that gives them, and by one of a make that we have no row for, by
// which people sign in as well. (By the others: tests/oauth.) Writes what it saw to WEIR_SHOTS.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

import { start } from "./issuer.mjs";

const load = createRequire(`${process.env.WEIR_MODULES}/`);
const { default: puppeteer } = await import(load.resolve("puppeteer-core"));

const weir = process.env.WEIR_URL;
const fake = process.env.WEIR_FAKE;
const shots = process.env.WEIR_SHOTS;
const PATIENCE = 20_000;

const issuer = await start(Number(process.env.WEIR_CERTIFIED_PORT), weir);
const browser = await puppeteer.launch({
  executablePath: process.env.WEIR_CHROMIUM,
  // A container's root has no sandbox to give; the pages are our own.
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});

let seen = 0;
const shot = async (page, name) => page.screenshot({ path: `${shots}/${String(++seen).padStart(2, "0")}-${name}.png` });

async function visitor() {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (line) => line.type() === "error" && /Content Security Policy/.test(line.text()) && problems.push(line.text()));
  return { context, page, problems };
}

// Where the provider asks who it is and whether they agree.
async function agree(page, who) {
  await page.waitForSelector("#username");
  await page.type("#username", who);
  await Promise.all([page.waitForNavigation(), page.click("#signin")]);
  await page.waitForSelector("#allow");
}

// The certified provider's own pages.
async function agreeAtCertified(page, who) {
  await page.waitForSelector('input[name="login"]');
  await page.type('input[name="login"]', who);
  await page.type('input[name="password"]', "whatever");
  await Promise.all([page.waitForNavigation(), page.click('button[type="submit"]')]);
  await page.waitForSelector('button[type="submit"]');
}

// As a page of the gateway's own origin asks.
const fetched = (page, path, options) =>
  page.evaluate(
    async (path, options) => {
      const answer = await fetch(path, options);
      return { status: answer.status, account: answer.headers.get("x-weir-account"), body: await answer.json() };
    },
    path,
    options,
  );

const asks = (page, token, model) =>
  fetched(page, "/v1/chat/completions", {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ model, messages: [{ role: "user", content: "hello" }] }),
  });

async function signIn(page, door) {
  await page.goto(`${weir}/auth?redirect_after=/account`);
  if (seen === 0) await shot(page, "choose");
  await Promise.all([page.waitForNavigation(), page.click(`a[href^="/auth/${door}?"]`)]);
  if (door === "certified") await agreeAtCertified(page, "ann");
  else await agree(page, "ann");
  await shot(page, `asked-by-${door}`);
  await Promise.all([
    page.waitForFunction((home) => location.href.startsWith(home), {}, `${weir}/account`),
    page.click(door === "certified" ? 'button[type="submit"]' : "#allow"),
  ]);
  await page.waitForSelector("body");
}

// A token of the session in this browser. Asked for at an address of the gateway where a console would be: pages of its own let no
// script run.
async function tokenOf(page) {
  await page.goto(`${weir}/`);
  const told = await fetched(page, "/auth/token", { method: "POST" });
  assert.equal(told.status, 200, JSON.stringify(told.body));
  return told.body.data.token;
}

for (const door of ["oidc", "certified"]) {
  const { context, page, problems } = await visitor();
  await signIn(page, door);
  await shot(page, `at-home-from-${door}`);
  const text = await page.evaluate(() => document.body.innerText);
  assert.match(text, door === "certified" ? /Certified ann/ : /ann/i, `${door}: ${text}`);
  const answer = await asks(page, await tokenOf(page), "claude/claude-sonnet-4-5");
  assert.equal(answer.status, 200, `${door}: ${JSON.stringify(answer.body)}`);
  const out = await fetched(page, "/auth/logout", { method: "POST" });
  assert.equal(out.status, 200, JSON.stringify(out.body));
  await page.goto(`${weir}/account`);
  assert.ok(page.url().startsWith(`${weir}/auth`), `${door}: signed out means out, not ${page.url()}`);
  assert.deepEqual(problems, [], door);
  console.log(`a person signed in by ${door}`);
  await context.close();
}

// Accounts: by a pop-up of a page of ours, which closes by itself.
for (const [platform, door, model, key] of [
  ["huggingface", "huggingface", "huggingface/deepseek-ai/DeepSeek-V4-Pro"],
  ["gemini", "google", "gemini/gemini-2.5-flash"],
  ["aihubmix", "aihubmix", "aihubmix/gpt-4o", "sk-a-key-beside-it"],
  // Of a provider that is made up: a row in the configuration, and nothing else.
  ["doubao", "certified", "doubao/doubao-seed-2-1-pro-260915"],
]) {
  const { context, page, problems } = await visitor();
  await signIn(page, "oidc");
  const token = await tokenOf(page);
  const begun = await fetched(page, "/api/v1/oauth/initiate", {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ platform, account_name: `my ${platform}`, api_key: key }),
  });
  assert.equal(begun.status, 200, `${platform}: ${JSON.stringify(begun.body)}`);
  const opened = new Promise((done) => page.once("popup", done));
  await page.evaluate((url) => void open(url, "", "popup,width=500,height=700"), begun.body.data.auth_url);
  const popup = await opened;
  popup.setDefaultTimeout(PATIENCE);
  const closed = new Promise((done) => popup.once("close", done));
  if (door === "certified") {
    await agreeAtCertified(popup, "ann");
    await popup.click('button[type="submit"]');
  } else {
    await agree(popup, "ann");
    await shot(popup, `asked-for-${platform}`);
    await popup.click("#allow");
  }
  const late = setTimeout(() => shot(popup, `left-open-${platform}`).finally(() => assert.fail(`${platform}: the pop-up stays`)), PATIENCE);
  await closed;
  clearTimeout(late);
  const listed = await fetched(page, "/api/v1/oauth/accounts", { headers: { authorization: `Bearer ${token}` } });
  const mine = listed.body.data.find((account) => account.account_name === `my ${platform}`);
  assert.ok(mine && !mine.is_expired, JSON.stringify(listed.body));
  const answer = await asks(page, token, model);
  assert.equal(answer.status, 200, `${platform}: ${JSON.stringify(answer.body)}`);
  if (door === "certified") await outlive(page, token, model, mine.id);
  assert.deepEqual(problems, [], platform);
  console.log(`an account of ${platform} was brought by ${door}, and answers`);
  await context.close();
}

// Renewed again and again, by six at once each time (a browser asks no more of one host): the provider's refresh token rotates, and a token that is traded twice would
// end the family.
async function outlive(page, token, model, id) {
  const headers = { authorization: `Bearer ${token}` };
  const rounds = 5;
  for (let round = 0; round < rounds; round += 1) {
    const renew = () => fetched(page, `/api/v1/oauth/accounts/${id}/refresh`, { method: "POST", headers });
    const told = await Promise.all(Array.from({ length: 6 }, renew));
    for (const answer of told) assert.equal(answer.status, 200, JSON.stringify(answer.body));
    const answer = await asks(page, token, model);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
  }
  const { refreshed, refused, revoked } = issuer.counts;
  assert.deepEqual([refused, revoked], [[], 0], "no token was traded twice");
  assert.ok(refreshed >= rounds && refreshed <= 2 * rounds, `${refreshed} renewals for ${rounds} rushes`);
  console.log(`${refreshed} renewals for ${rounds} rushes of six, and the family lives`);
}

await browser.close();
issuer.close();
console.log(`${seen} pictures in ${shots}`);
