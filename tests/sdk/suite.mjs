// The OpenAI SDK for Node as a client of Weir, with each platform simulated in its own dialect behind it.
//
// Why besides Python's: its helpers break on other liberties (a missing role, a missing finish reason, a call's index that
// does not begin at 0), it reads embeddings in base64 only, and it times out and retries by other rules. What is the same
// for both clients is checked in suite.py. WEIR_SDK says which SDK; words as arguments run the cases that hold them.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const { WEIR_SDK, WEIR_URL, WEIR_FAILS_URL, WEIR_FAKE, WEIR_TOKEN, WEIR_SLOW_TOKEN, WEIR_POOR_TOKEN } = process.env;
const sdk = createRequire(path.join(WEIR_SDK, 'package.json'));
const load = async (name) => import(pathToFileURL(path.join(WEIR_SDK, name)).href);
const { default: OpenAI } = await load('index.mjs');
const { zodResponseFormat } = await load('helpers/zod.mjs');
const { z } = await import(pathToFileURL(sdk.resolve('zod')).href);
const version = JSON.parse(readFileSync(path.join(WEIR_SDK, 'package.json'))).version;
const PLATFORMS = JSON.parse(readFileSync(new URL('platforms.json', import.meta.url)));

const client = (more = {}) => new OpenAI({ apiKey: WEIR_TOKEN, baseURL: WEIR_URL, maxRetries: 0, timeout: 30_000, ...more });
const weir = client();
const broken = client({ baseURL: WEIR_FAILS_URL });

/** A client, and the times at which it really sent something: its own retries too. */
function counted(more = {}) {
  const sent = [];
  const made = client({ ...more, fetch: (url, init) => (sent.push({ at: performance.now(), init }), fetch(url, init)) });
  return [made, sent];
}

const PIXEL =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false };
const WEATHER = { type: 'function', function: { name: 'get_weather', description: 'The weather in a city.', parameters } };
const THOUGHT = 'Let me think about this first.';

const user = (text) => [{ role: 'user', content: text }];
const nameOf = (p, what = 'model') => `${p.name}/${p[what]}`;
const fake = async (what) => (await fetch(`${WEIR_FAKE}/_fake/${what}`)).json();
const books = async (p, key) => (await fake('counters')).platforms[p.name]?.[key] ?? {};
const gone = async (p, key) => (await books(p, key)).client_gone ?? 0;

async function until(what, within, told) {
  const began = performance.now();
  while (!(await what())) {
    assert.ok(performance.now() - began < within, `not within ${within} ms ${told}`);
    await new Promise((wake) => setTimeout(wake, 10));
  }
}

/** The error that `ask` ends in, which is exactly of class `kind`. */
async function fails(kind, ask) {
  let found;
  try {
    found = await ask();
  } catch (error) {
    assert.equal(error.constructor, kind, `${error.constructor.name}: ${error.message}`);
    return error;
  }
  assert.fail(`no error: ${JSON.stringify(found)}`);
}

const ask = (model, text, more = {}, by = weir) =>
  by.chat.completions.create({ model, messages: Array.isArray(text) ? text : user(text), ...more });

/** A stream put together by hand, with OpenAI's rules checked on the way. */
async function told(model, text, more = {}, by = weir) {
  const found = { text: '', thinking: '', calls: [], finish: null, usage: null, count: 0 };
  let role = null;
  const stream = await ask(model, text, { stream: true, stream_options: { include_usage: true }, ...more }, by);
  for await (const chunk of stream) {
    found.count += 1;
    assert.equal(chunk.object, 'chat.completion.chunk');
    assert.equal(chunk.model, model);
    assert.equal(found.usage, null, 'a chunk after the one with usage');
    if (chunk.usage) {
      assert.deepEqual(chunk.choices, []);
      found.usage = chunk.usage;
      continue;
    }
    assert.equal(chunk.choices.length, 1);
    const { delta, finish_reason } = chunk.choices[0];
    assert.equal(found.finish, null, 'something after the finish');
    assert.ok(role === null ? delta.role === 'assistant' : delta.role === undefined, `role ${delta.role}`);
    role = 'assistant';
    found.text += delta.content ?? '';
    found.thinking += delta.reasoning_content ?? '';
    for (const call of delta.tool_calls ?? []) {
      if (call.index === found.calls.length) {
        assert.ok(call.id && call.type === 'function' && call.function.name, JSON.stringify(call));
        found.calls.push({ id: call.id, name: call.function.name, arguments: '' });
      } else {
        assert.ok(call.id === undefined && call.function.name === undefined, JSON.stringify(call));
      }
      found.calls[call.index].arguments += call.function.arguments;
    }
    found.finish = finish_reason ?? null;
  }
  assert.ok(found.usage, 'no usage');
  return found;
}

const counts = (usage) => [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens];
const callsOf = (calls) => (calls ?? []).map((call) => [call.function?.name ?? call.name, JSON.parse(call.function?.arguments ?? call.arguments)]);

/** The same asked as one and as a stream: everything comparable, which must be the same. */
async function both(model, text, more = {}) {
  const { data: whole, request_id } = await weir.chat.completions
    .create({ model, messages: Array.isArray(text) ? text : user(text), ...more })
    .withResponse();
  assert.ok(request_id);
  assert.equal(whole._request_id, request_id);
  assert.equal(whole.model, model);
  const stream = await told(model, text, more);
  const { message, finish_reason } = whole.choices[0];
  const found = [message.content ?? '', callsOf(message.tool_calls), finish_reason, message.reasoning_content ?? ''];
  assert.deepEqual([stream.text, callsOf(stream.calls), stream.finish, stream.thinking], found, 'as a stream');
  assert.deepEqual(counts(stream.usage), counts(whole.usage), 'usage as a stream');
  return { found, usage: counts(whole.usage), whole };
}

const CASES = [];
/** A case for every platform that has all of `needs`. */
const each = (name, needs, run) => {
  for (const p of PLATFORMS) if (needs.every((need) => p[need])) CASES.push([`${name} ${p.name}`, () => run(p)]);
};
const once = (name, run) => CASES.push([name, run]);

each('plain answers and streams', [], async (p) => {
  const { found, usage } = await both(nameOf(p), [{ role: 'system', content: 'Be brief.' }, ...user('Hello from the SDK')]);
  assert.deepEqual(found, ['You said: Hello from the SDK', [], 'stop', '']);
  assert.deepEqual(usage, [6, 6, 12]);
});

each('tool calls', ['choices'], async (p) => {
  const cities = p.one_call ? ['Oslo'] : ['Oslo', 'Rome', 'Paris'];
  const { found, usage } = await both(nameOf(p), 'The weather in Oslo, Rome and Paris, please.', { tools: [WEATHER] });
  assert.deepEqual(found[1], cities.map((city) => ['get_weather', { city }]));
  assert.deepEqual([found[0], found[2], usage[1]], ['', 'tool_calls', cities.length * 4]);
});

each('the stream helper', [], async (p) => {
  const deltas = [];
  const stream = weir.chat.completions.stream({ model: nameOf(p), messages: user('Hello'), stream_options: { include_usage: true } });
  stream.on('content', (delta) => deltas.push(delta));
  const final = await stream.finalChatCompletion();
  assert.equal(deltas.join(''), 'You said: Hello');
  assert.equal(final.choices[0].message.content, 'You said: Hello');
  assert.equal(final.choices[0].finish_reason, 'stop');
  assert.equal((await stream.totalUsage()).total_tokens, 4);
});

each('the stream helper with tools', ['choices'], async (p) => {
  const cities = p.one_call ? ['Oslo'] : ['Oslo', 'Rome'];
  const stream = weir.chat.completions.stream({
    model: nameOf(p),
    messages: user(`The weather in ${cities.join(' and ')}, please.`),
    tools: [WEATHER],
  });
  const { choices } = await stream.finalChatCompletion();
  assert.deepEqual(callsOf(choices[0].message.tool_calls), cities.map((city) => ['get_weather', { city }]));
  assert.equal(choices[0].finish_reason, 'tool_calls');
});

each('run tools', ['choices'], async (p) => {
  if (p.no_results) return; // the wire has no turn for results: they become words
  const degrees = { Oslo: '12C', Rome: '25C' };
  const asked = [];
  const run = async ({ city }) => (asked.push(city), degrees[city]);
  const tool = { type: 'function', function: { ...WEATHER.function, function: run, parse: JSON.parse } };
  for (const stream of [false, true]) {
    asked.length = 0;
    const cities = p.one_call ? ['Oslo'] : ['Oslo', 'Rome'];
    const runner = weir.chat.completions.runTools({
      model: nameOf(p),
      messages: user(`The weather in ${cities.join(' and ')}, please.`),
      tools: [tool],
      stream,
    });
    assert.equal(await runner.finalContent(), cities.map((city) => `It is ${degrees[city]} in ${city}.`).join(' '));
    assert.deepEqual(asked, cities);
  }
});

each('structured output', ['schema'], async (p) => {
  const Place = z.object({ city: z.string(), people: z.number().int() });
  const wanted = { city: 'You said: Oslo as JSON', people: 1 };
  const asked = { model: nameOf(p), messages: user('Oslo as JSON'), response_format: zodResponseFormat(Place, 'place') };
  const parsed = await weir.chat.completions.parse(asked);
  assert.deepEqual(parsed.choices[0].message.parsed, wanted);
  const final = await weir.chat.completions.stream(asked).finalChatCompletion();
  assert.deepEqual(final.choices[0].message.parsed, wanted);
});

each('images', ['vision'], async (p) => {
  const content = [{ type: 'text', text: 'What is this?' }, { type: 'image_url', image_url: { url: PIXEL } }];
  const calm = p.name === 'zhipu' ? { thinking: { type: 'disabled' } } : {};
  const { found, usage } = await both(nameOf(p, 'vision'), [{ role: 'user', content }], calm);
  assert.deepEqual([found[0], usage[0]], ['I see 1 image(s).', 88]);
});

each('thinking', ['thinks'], async (p) => {
  const { found } = await both(nameOf(p, 'thinks'), 'Think hard', p.effort ? { reasoning_effort: 'high' } : {});
  assert.deepEqual(found, ['You said: Think hard', [], 'stop', p.shows_thinking === false ? '' : THOUGHT]);
});

each('stop and length', ['stop'], async (p) => {
  const stopped = await both(nameOf(p), 'red green blue', { stop: ['green'] });
  assert.deepEqual([stopped.found[0].trim(), stopped.found[2]], ['You said: red', 'stop']);
  const cut = await both(nameOf(p), 'one two three four', { max_tokens: 3 });
  assert.deepEqual([cut.found[0].trim(), cut.found[2]], ['You said: one', 'length']);
});

each('embeddings', ['embeds'], async (p) => {
  const asked = { model: nameOf(p, 'embeds'), input: ['red green', 'blue'] };
  // Unless told otherwise this SDK asks for base64, and takes whatever comes for it.
  const read = (await weir.embeddings.create(asked)).data.map((item) => [...item.embedding]);
  const floats = (await weir.embeddings.create({ ...asked, encoding_format: 'float' })).data.map((item) => item.embedding);
  assert.equal(read.length, 2);
  assert.equal(read[0].length, 8);
  read.forEach((vector, at) =>
    vector.forEach((number, place) => assert.ok(Math.abs(number - floats[at][place]) < 1e-6, `${vector} for ${floats[at]}`)),
  );
  const coded = await weir.embeddings.create({ ...asked, encoding_format: 'base64' });
  assert.equal(typeof coded.data[0].embedding, 'string');
});

each('log probabilities', ['logprobs'], async (p) => {
  const more = { logprobs: true, top_logprobs: 2 };
  const whole = await ask(nameOf(p, 'logprobs'), 'Hello', more);
  const tokens = whole.choices[0].logprobs.content.map((entry) => entry.token);
  assert.equal(tokens.join(''), 'You said: Hello');
  const final = await weir.chat.completions
    .stream({ model: nameOf(p, 'logprobs'), messages: user('Hello'), ...more })
    .finalChatCompletion();
  assert.deepEqual(final.choices[0].logprobs.content.map((entry) => entry.token), tokens);
});

once('all platforms answer alike', async () => {
  const answers = {};
  for (const p of PLATFORMS) {
    const plain = await both(nameOf(p), 'Hello from the SDK');
    const call = await both(nameOf(p), 'The weather in Oslo, please.', { tools: [WEATHER] });
    call.found[3] = call.found[3].replace(p.thought_before_call ?? '\0', '');
    answers[p.name] = JSON.stringify([plain.found, plain.usage, call.found, call.usage]);
  }
  assert.equal(new Set(Object.values(answers)).size, 1, JSON.stringify(answers, null, 1));
});

once('models are listed and found', async () => {
  const ids = [];
  for await (const model of weir.models.list()) ids.push(model.id);
  assert.ok(ids.includes('smart'), ids.join());
  for (const id of ['smart', 'huggingface/deepseek-ai/DeepSeek-V4-Pro', 'claude/claude-sonnet-4-5']) {
    assert.equal((await weir.models.retrieve(id)).id, id);
  }
  const error = await fails(OpenAI.NotFoundError, () => weir.models.retrieve('no/such'));
  assert.equal(error.code, 'model_not_found');
});

once('thought signatures come back even when the client drops them', async () => {
  const more = { tools: [WEATHER], reasoning_effort: 'low' };
  const model = 'gemini/gemini-3.8-flash';
  const [bare] = (await told(model, 'The weather in Oslo, please.', more)).calls;
  const call = { id: bare.id, type: 'function', function: { name: bare.name, arguments: bare.arguments } };
  const messages = [
    ...user('The weather in Oslo, please.'),
    { role: 'assistant', content: null, tool_calls: [call] },
    { role: 'tool', tool_call_id: bare.id, content: '12C' },
  ];
  assert.equal((await ask(model, messages, more)).choices[0].message.content, 'It is 12C in Oslo.');
});

once("callers' mistakes have their classes", async () => {
  const table = [
    [OpenAI.AuthenticationError, 401, 'invalid_api_key', () => ask('smart', 'Hi', {}, client({ apiKey: 'sk-wrong' }))],
    [OpenAI.NotFoundError, 404, 'model_not_found', () => ask('no-such-model', 'Hi')],
    [OpenAI.NotFoundError, 404, 'not_found', () => ask('smart', 'Hi', {}, client({ baseURL: `${WEIR_URL}/nowhere` }))],
    [OpenAI.BadRequestError, 400, null, () => ask('smart', [])],
  ];
  for (const [kind, status, code, run] of table) {
    const error = await fails(kind, run);
    assert.deepEqual([error.status, error.code, error.type], [status, code, 'invalid_request_error']);
    assert.ok(error.requestID && error.error.message, `${kind.name} without request id`);
  }
});

const FAULTS = [
  ['bad_request', OpenAI.BadRequestError, undefined],
  ['context_too_long', OpenAI.BadRequestError, 'context_length_exceeded'],
  ['rate_limited', OpenAI.RateLimitError, 'rate_limit_exceeded'],
  ['auth_invalid', OpenAI.InternalServerError, 'upstream_auth_failed'],
  ['server_error', OpenAI.InternalServerError, 'upstream_error'],
  ['overloaded', OpenAI.InternalServerError, 'upstream_error'],
];

each("platforms' errors have their classes", [], async (p) => {
  for (const [directive, kind, code] of FAULTS) {
    if (p.name === 'spark-ws' && directive === 'auth_invalid') continue; // told at the handshake, not in an answer
    const [by, sent] = counted({ baseURL: WEIR_FAILS_URL, maxRetries: kind === OpenAI.RateLimitError ? 0 : 2 });
    const error = await fails(kind, () => ask(`${p.name}/${directive}`, `Hello @error=${directive}`, {}, by));
    if (code !== undefined) assert.equal(error.code, code, directive);
    assert.ok(error.requestID && error.type, directive);
    assert.equal(sent.length, 1, `${directive}: requests sent by the SDK`);
    if (kind === OpenAI.RateLimitError) assert.ok(Number(error.headers.get('retry-after')) >= 1);
  }
});

once('a short wait is waited for', async () => {
  const [by, sent] = counted({ apiKey: WEIR_SLOW_TOKEN, maxRetries: 2 });
  for (let turn = 0; turn < 2; turn += 1) assert.equal((await ask('smart', 'Hello', {}, by)).choices[0].message.content, 'You said: Hello');
  const gaps = sent.slice(1).map((one, place) => one.at - sent[place].at);
  assert.ok(sent.length >= 3 && Math.max(...gaps) >= 700, `${gaps}`);
});

once('an empty purse is not tried again', async () => {
  const [by, sent] = counted({ apiKey: WEIR_POOR_TOKEN, maxRetries: 2 });
  const spend = () => ask('smart', 'Hello', { max_tokens: 40 }, by);
  const error = await fails(OpenAI.RateLimitError, async () => {
    for (let turn = 0; turn < 5; turn += 1) await spend();
  });
  assert.deepEqual([error.code, error.type, error.headers.get('x-should-retry')], ['insufficient_quota', 'insufficient_quota', 'false']);
  const before = sent.length;
  await fails(OpenAI.RateLimitError, spend);
  assert.equal(sent.length, before + 1);
});

each('streams that break raise', [], async (p) => {
  for (const [name, directive] of [['midstream', '@midstream_error=overloaded'], ['cut', '@cut=20']]) {
    const read = async () => {
      let text = '';
      for await (const chunk of await ask(`${p.name}/${name}`, `Hello @words=40 ${directive}`, { stream: true }, broken)) {
        text += chunk.choices[0]?.delta.content ?? '';
        assert.equal(chunk.choices[0]?.finish_reason ?? null, null, 'an invented end');
      }
      return text;
    };
    const error = await fails(OpenAI.APIError, read);
    assert.equal(error.code, 'upstream_stream_incomplete', name);
    // The helper says so too.
    const helper = broken.chat.completions.stream({ model: `${p.name}/${name}`, messages: user(`Hello @words=40 ${directive}`) });
    await assert.rejects(helper.finalChatCompletion(), /./);
  }
});

each('callers who leave are noticed', [], async (p) => {
  const keyOf = (name) => (['openai', 'qwen', 'aihubmix', 'dashscope'].includes(p.name) ? `sk-${name}` : { claude: `sk-ant-${name}`, gemini: `AIza-${name}`, zhipu: `${name}.secret`, baidu: `bce-v3/${name}`, huggingface: `hf_${name}` }[p.name] ?? name);
  const before = await gone(p, keyOf('gone'));
  const stream = await ask(`${p.name}/gone`, 'Hello @gap=50 @words=400', { stream: true }, broken);
  let seen = 0;
  for await (const _ of stream) if ((seen += 1) === 3) break;
  await until(async () => (await gone(p, keyOf('gone'))) === before + 1, 1000, '(in mid-stream)');
  for (const streamed of [false, true]) {
    const earlier = await gone(p, keyOf('silent'));
    const leaving = new AbortController();
    // Only once the platform has the request: on a busy machine that takes its time.
    const arrived = until(async () => (await books(p, keyOf('silent'))).in_flight > 0, 20_000, '(the request did not arrive)');
    const left = arrived.then(() => leaving.abort());
    await fails(OpenAI.APIUserAbortError, () =>
      broken.chat.completions.create({ model: `${p.name}/silent`, messages: user('Hello @stall=30000'), stream: streamed }, { signal: leaving.signal }),
    );
    await left;
    await until(async () => (await gone(p, keyOf('silent'))) === earlier + 1, 1000, `(before the first word, stream=${streamed})`);
  }
});

const wanted = process.argv.slice(2);
const chosen = CASES.filter(([name]) => wanted.every((word) => name.includes(word)));
const began = performance.now();
let failed = 0;
for (const [name, run] of chosen) {
  let timer;
  const tooLong = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error('the case took too long')), 60_000)));
  try {
    await Promise.race([run(), tooLong]);
  } catch (error) {
    failed += 1;
    const lines = [...(error.stack ?? '').matchAll(/suite\.mjs:(\d+)/g)].map((match) => match[1]);
    console.log(`  FAILED ${name} (lines ${lines}): ${error.name}: ${String(error.message).slice(0, 1500)}`);
  } finally {
    clearTimeout(timer);
  }
}
const seconds = ((performance.now() - began) / 1000).toFixed(1);
console.log(`openai ${version} on Node ${process.versions.node}: ${chosen.length - failed} passed, ${failed} failed in ${seconds} s`);
process.exit(failed ? 1 : 0);
