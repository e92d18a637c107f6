// People in a real Chromium: from the page where they choose, by every provider's own pages, to their account; ways in added and
// taken away; no; and out. A console that complains (a policy that stops a form or a style) is a failure. Pictures of what they
// saw are left in target/oauth.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

import { issuer, register } from "./person.mjs";

const require = createRequire(`${process.env.WEIR_MODULES}/`);
const { default: puppeteer } = await import(pathToFileURL(require.resolve("puppeteer-core")));
const pictures = `${process.env.WEIR_MODULES}/../..`;
const doors = process.env.WEIR_DOORS.split(" ");

// Each sends people to its pages, and nobody back by itself.
for (const door of doors) {
  const body = JSON.stringify({ auto: null });
  assert.equal((await fetch(`${process.env.WEIR_FAKE}/_fake/idp/${door}/settings`, { method: "POST", body })).status, 200);
}

const browser = await puppeteer.launch({
  executablePath: process.env.WEIR_CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

async function person() {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => {
    // Chromium asks every site for a picture of its own.
    if (message.type() === "error" && !message.location().url?.endsWith("/favicon.ico")) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  return page;
}

const follow = (page, action) => Promise.all([page.waitForNavigation(), action]);
const text = (page) => page.$eval("body", (body) => body.innerText);

// Signs in at the provider's page and answers its question.
async function agree(page, name, answer = "allow") {
  // The page may lead there by another that leads on.
  await page.waitForSelector("#username");
  await page.type("#username", name);
  await follow(page, page.click("#signin"));
  await follow(page, page.click(`#${answer}`));
}

async function choose(page, door) {
  await follow(page, page.click(`a[href^="/auth/${door}?"], a[href="/auth/${door}"]`));
}

try {
  let passed = 0;
  for (const door of doors) {
    const page = await person();
    await page.goto(`${issuer}/account`);
    assert.equal(new URL(page.url()).pathname, "/auth", "nobody is signed in: to choose");
    if (passed === 0) await page.screenshot({ path: `${pictures}/choose.png` });
    await choose(page, door);
    await agree(page, "bob");
    assert.equal(page.url(), `${issuer}/account`, `${door}: ${await text(page)}`);
    assert.match(await text(page), /signed in as Bob <b>&"O'Neil"/, door);
    assert.deepEqual(page.complaints, [], door);
    const cookies = await page.cookies();
    const session = cookies.find((cookie) => cookie.name.endsWith("weir-session"));
    assert.ok(session.httpOnly && session.sameSite === "Lax" && session.domain === new URL(issuer).hostname);
    await page.browserContext().close();
    passed += 1;
  }

  // A second way in, and away with it, by the page's own links and buttons.
  const page = await person();
  await page.goto(`${issuer}/auth?redirect_after=/account`);
  await choose(page, "github");
  await agree(page, "ann");
  await follow(page, page.click('form[action="/auth/gitee"] button'));
  await agree(page, "cy");
  assert.equal(page.url(), `${issuer}/account`);
  await page.screenshot({ path: `${pictures}/account.png` });
  const ways = () => page.$$eval("ul:first-of-type li", (items) => items.map((item) => item.innerText));
  assert.equal((await ways()).length, 2);
  await follow(page, page.click('form:has(input[value="unlink"]) button'));
  assert.equal((await ways()).length, 1, await text(page));
  // What is somebody else's stays theirs.
  await follow(page, page.click('form[action="/auth/gitee"] button'));
  await agree(page, "bob");
  assert.match(await text(page), /somebody else's way in already/);
  await page.screenshot({ path: `${pictures}/taken.png` });
  // A stray tab does not end what is pending.
  await page.goto(`${issuer}/auth`);
  await choose(page, "oidc");
  const tab = await page.browserContext().newPage();
  await tab.goto(`${issuer}/auth/oidc/callback?code=x&state=y`);
  assert.match(await text(tab), /not pending/);
  await tab.close();
  await agree(page, "ann");
  assert.equal(page.url(), `${issuer}/account`);
  // An app whose callback goes on to another site: the form's policy stops nothing on the way.
  const landed = [];
  const site = createServer((request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    if (url.pathname === "/cb") {
      landed.push(url.searchParams);
      response.writeHead(302, { location: `http://localhost:${site.address().port}/home` });
    }
    response.end("<title>The app</title>here");
  });
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  const app = await register({ is_public: true, redirect_uris: ["http://127.0.0.1/cb"] });
  for (const [answer, told] of [["yes", "code"], ["no", "error"]]) {
    const asked = new URL(`${issuer}/api/oauth2/authorize`);
    const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    for (const [name, value] of Object.entries({
      response_type: "code", client_id: app.client_id, redirect_uri: `http://127.0.0.1:${site.address().port}/cb`,
      scope: "profile", state: "s", code_challenge: challenge, code_challenge_method: "S256",
    })) asked.searchParams.set(name, value);
    await page.goto(asked.href);
    if (answer === "yes") await page.screenshot({ path: `${pictures}/consent.png` });
    await page.click(`button[value="${answer}"]`);
    await page.waitForFunction(() => document.title === "The app", { timeout: 15000 });
    assert.equal(new URL(page.url()).hostname, "localhost");
    assert.ok(landed.at(-1).get(told), String(landed.at(-1)));
  }
  site.close();
  // No, there.
  const other = await person();
  await other.goto(`${issuer}/auth`);
  await choose(other, "github");
  await agree(other, "ann", "deny");
  assert.match(await text(other), /did not agree/);
  // Out, everywhere.
  await page.goto(`${issuer}/auth/logout`);
  await page.screenshot({ path: `${pictures}/logout.png` });
  await follow(page, page.click('form:has(input[name="everywhere"]) button'));
  assert.equal(new URL(page.url()).pathname, "/auth");
  await page.goto(`${issuer}/account`);
  assert.equal(new URL(page.url()).pathname, "/auth", "signed out");
  assert.ok(!(await page.cookies()).some((cookie) => cookie.name.endsWith("weir-session")));
  const refused = page.complaints.filter((line) => !line.includes("400 (Bad Request)"));
  assert.deepEqual(refused, []);
  console.log(`chromium: ${passed + 6} passed, 0 failed`);
} finally {
  await browser.close();
}
