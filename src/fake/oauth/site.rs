//! A web site without OAuth, for onboarding with the help of a browser. Why several steps: whoever automates a login meets a
//! second factor and a question for humans, and must be told when they are wrong.
//!
//! `/site/login` (user name, and the password `open sesame`), then `/site/code` (six digits, shown at `/_fake/site/code`), then
//! `/site/question` (a sum in words), then `/site/home`, which puts a token into `localStorage` as `site_token`. The session is
//! the cookie `site_session`; before `/site/home` it opens nothing. Elements: `#username`, `#password`, `#login`; `#code`,
//! `#verify`; `#question`, `#answer`, `#send`; `#welcome`; what is wrong stands in `#problem`. `/site-api/me` and
//! `/site-api/v1/…` (OpenAI's wire) take the token as bearer, or the cookie.
//!
//! Everything stands where [`FIELD`] and [`BUTTON`] say, for whoever sees pictures only. Other ways in: `/site/popup` opens the login in
//! a window of its own, `/site/terms` one that leads elsewhere, `/site/ask` asks something in a box of the browser's before, `/site/away?to=…` leads anywhere,
//! `/site/reach?port=…&udp=…&inside=…` tries to reach those ports of this machine, also by its other address, in every way that a
//! page has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::Method;
use parking_lot::Mutex;
use rand::Rng;
use serde_json::{Value, json};

use super::pages::{self, escaped};
use crate::fake::wire::{Asked, Native};
use crate::ids::random_name;

/// Everybody's password.
pub const PASSWORD: &str = "open sesame";
/// The session cookie.
pub const COOKIE: &str = "site_session";
/// The token's key in `localStorage`.
pub const STORED: &str = "site_token";

/// The middle of a page's first field; the next one is [`FIELD_STEP`] further down. Of the pages after the first: their only field is the
/// second.
pub const FIELD: (u32, u32) = (180, 112);
pub const FIELD_STEP: u32 = 80;
/// The middle of a page's button.
pub const BUTTON: (u32, u32) = (110, 248);

const STYLE: &str = "<style>h1{position:absolute;left:40px;top:14px;margin:0;font-size:26px}\
form{position:absolute;left:40px;top:70px;width:400px;line-height:24px}p{margin:0;height:80px}label{display:block}\
input{display:block;box-sizing:border-box;width:280px;height:36px;padding:4px 10px}\
button{box-sizing:border-box;width:140px;height:36px;padding:0;border:0;border-radius:6px;background:#0b7a4b;color:#fff}\
#problem{position:absolute;left:40px;top:310px;width:400px}#go{position:absolute;left:40px;top:230px}</style>";

const NUMBERS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

#[derive(Clone, Debug)]
struct Visit {
    username: String,
    code: String,
    sum: (usize, usize),
    step: Step,
    token: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Code,
    Question,
    Home,
}

/// The site: visits by their cookie.
#[derive(Default)]
pub struct Site(Mutex<Books>);

#[derive(Default)]
struct Books {
    visits: BTreeMap<String, Visit>,
    wrong: BTreeMap<&'static str, u64>,
    last_code: Option<(String, String)>,
}

fn cookie(asked: &Asked) -> &str {
    let pairs = asked.header("cookie").split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value).next().unwrap_or_default()
}

fn field(asked: &Asked, name: &str) -> String {
    let mut pairs = url::form_urlencoded::parse(&asked.body);
    pairs.find(|(known, _)| known == name).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn go(place: &str) -> Native {
    let headers = vec![("location", place.to_owned()), ("cache-control", "no-store".to_owned())];
    Native { status: 303, headers, body: bytes::Bytes::new() }
}

fn form(title: &str, action: &str, fields: &str, problem: &str) -> Native {
    let problem = match problem {
        "" => String::new(),
        words => format!("<p id=\"problem\">{}</p>", escaped(words)),
    };
    let status = if problem.is_empty() { 200 } else { 401 };
    let body = format!("{STYLE}{problem}<form method=\"post\" action=\"{action}\">{fields}</form>");
    pages::page(status, title, &body)
}

/// A page with a button, and what the button does.
fn button(title: &str, script: &str) -> Native {
    let nonce = random_name("n", 16);
    let body = format!("{STYLE}<button id=\"go\">Go on</button><script nonce=\"{nonce}\">{script}</script>");
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'");
    pages::with_policy(200, title, &body, &policy)
}

/// A page that means harm to whoever shares the browser's network.
fn reach(asked: &Asked) -> Native {
    let number =
        |name: &str| asked.query(name).and_then(|text| text.parse::<u16>().ok()).unwrap_or(1).to_string();
    let inside = asked.query("inside").and_then(|text| text.parse::<IpAddr>().ok());
    let inside = inside.map_or_else(|| "localhost".to_owned(), |address| address.to_string());
    let script = include_str!("reach.js");
    let script =
        script.replace("$PORT", &number("port")).replace("$UDP", &number("udp")).replace("$INSIDE", &inside);
    let body = format!("{STYLE}<script>{script}</script>");
    pages::with_policy(200, "Reach", &body, "frame-ancestors 'none'")
}

fn login_form(problem: &str) -> Native {
    let fields = "<p><label>User name <input id=\"username\" name=\"username\" autocomplete=\"username\"></label></p><p><label>Password <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"current-password\"></label></p><p><button id=\"login\">Log in</button></p>";
    form("Log in", "/site/login", fields, problem)
}

fn code_form(problem: &str) -> Native {
    let fields = "<p>We have sent you a code of six digits.</p><p><label>Code <input id=\"code\" name=\"code\" inputmode=\"numeric\" autocomplete=\"one-time-code\"></label></p><p><button id=\"verify\">Verify</button></p>";
    form("Second step", "/site/code", fields, problem)
}

fn question_form(sum: (usize, usize), problem: &str) -> Native {
    let word = |number: usize| NUMBERS.get(number).copied().unwrap_or("zero");
    let fields = format!(
        "<p>One more thing.</p><p><label><span id=\"question\">How much is {} plus {}?</span> <input id=\"answer\" name=\"answer\" autocomplete=\"off\"></label></p><p><button id=\"send\">I am no robot</button></p>",
        word(sum.0),
        word(sum.1)
    );
    form("Are you a robot?", "/site/question", &fields, problem)
}

fn home(visit: &Visit) -> Native {
    let nonce = random_name("n", 16);
    let body = format!(
        "<p id=\"welcome\">Welcome, {}.</p><script nonce=\"{nonce}\">localStorage.setItem(\"{STORED}\", \"{}\")</script>",
        escaped(&visit.username),
        visit.token
    );
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; frame-ancestors 'none'"
    );
    pages::with_policy(200, "Home", &body, &policy)
}

/// A page below `/site`.
pub fn page(site: &Site, asked: &Asked, path: &str) -> Native {
    let mut books = site.0.lock();
    let posted = asked.method == Method::POST;
    match path {
        "/login" => return if posted { log_in(&mut books, asked) } else { login_form("") },
        "/popup" => {
            let open = "window.open('/site/login', 'login', 'width=500,height=500')";
            return button("Partner", &format!("document.getElementById('go').onclick = () => {open}"));
        }
        "/terms" => {
            let open = "window.open('http://localhost:1/terms')";
            return button("Terms", &format!("document.getElementById('go').onclick = () => {open}"));
        }
        "/ask" => return button("Ask", "if (confirm('Are you of age?')) location = '/site/login'"),
        "/reach" => return reach(asked),
        "/away" => return go(&asked.query("to").unwrap_or_default()),
        _ => {}
    }
    let Some(visit) = books.visits.get(cookie(asked)).cloned() else { return go("/site/login") };
    let due = match visit.step {
        Step::Code => "/code",
        Step::Question => "/question",
        Step::Home => "/home",
    };
    if path != due {
        return if path.is_empty() || NEXT.contains(&path) { go(&format!("/site{due}")) } else { nothing() };
    }
    match (visit.step, posted) {
        (Step::Home, _) => home(&visit),
        (Step::Code, false) => code_form(""),
        (Step::Question, false) => question_form(visit.sum, ""),
        (Step::Code, true) if field(asked, "code") == visit.code => {
            step(&mut books, asked, Step::Question, "/site/question")
        }
        (Step::Code, true) => {
            *books.wrong.entry("code").or_default() += 1;
            code_form("That code is wrong.")
        }
        (Step::Question, true) => {
            let given = field(asked, "answer").to_lowercase();
            let sum = visit.sum.0 + visit.sum.1;
            if given == sum.to_string() || NUMBERS.get(sum).is_some_and(|word| *word == given) {
                return step(&mut books, asked, Step::Home, "/site/home");
            }
            *books.wrong.entry("question").or_default() += 1;
            let other = sum_of_two();
            if let Some(visit) = books.visits.get_mut(cookie(asked)) {
                visit.sum = other;
            }
            question_form(other, "That is not right. Try another one.")
        }
    }
}

const NEXT: [&str; 4] = ["/", "/code", "/question", "/home"];

fn nothing() -> Native {
    pages::problem(404, "site", "no such page")
}

fn sum_of_two() -> (usize, usize) {
    let mut random = rand::rng();
    (random.random_range(1..10), random.random_range(1..10))
}

fn step(books: &mut Books, asked: &Asked, next: Step, place: &str) -> Native {
    if let Some(visit) = books.visits.get_mut(cookie(asked)) {
        visit.step = next;
    }
    go(place)
}

fn log_in(books: &mut Books, asked: &Asked) -> Native {
    let username = field(asked, "username");
    let known = super::people::made_up().contains_key(&username);
    if !known || field(asked, "password") != PASSWORD {
        *books.wrong.entry("password").or_default() += 1;
        return login_form("Wrong user name or password.");
    }
    let code = format!("{:06}", rand::rng().random_range(0..1_000_000));
    let session = random_name("s", 32);
    books.last_code = Some((username.clone(), code.clone()));
    let visit =
        Visit { username, code, sum: sum_of_two(), step: Step::Code, token: random_name("sk-site-", 32) };
    books.visits.insert(session.clone(), visit);
    go("/site/code").with("set-cookie", format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax"))
}

/// The token of whoever may use `/site-api`: the bearer token, or that of the cookie's visit.
pub fn api(site: &Site, asked: &Asked) -> Result<(String, String), Native> {
    let books = site.0.lock();
    let visit = match asked.bearer() {
        Some(token) => books.visits.values().find(|visit| visit.token == token),
        None => books.visits.get(cookie(asked)),
    };
    let visit = visit.filter(|visit| visit.step == Step::Home);
    visit.map(|visit| (visit.token.clone(), visit.username.clone())).ok_or_else(|| {
        Native::json(
            401,
            &json!({"error":{"message":"Your session has expired. Please log in again.",
            "type":"invalid_request_error","param":null,"code":"invalid_api_key"}}),
        )
    })
}

impl Site {
    /// What tests read and set: `/_fake/site…`.
    pub fn control(&self, asked: &Asked, what: &str) -> Native {
        let mut books = self.0.lock();
        match (&asked.method, what) {
            (&Method::GET, "/code") => match &books.last_code {
                Some((username, code)) => Native::json(200, &json!({"username":username,"code":code})),
                None => Native::json(404, &json!({"error":"nobody has logged in"})),
            },
            // What a person reads off the page.
            (&Method::GET, "/question") => {
                let open = books.visits.values().find(|visit| visit.step == Step::Question);
                match open.map(|visit| visit.sum) {
                    Some((one, other)) => Native::json(200, &json!({"answer":(one + other).to_string()})),
                    None => Native::json(404, &json!({"error":"nobody is asked"})),
                }
            }
            (&Method::GET, "" | "/") => {
                let visits: Vec<Value> = books
                    .visits
                    .values()
                    .map(|visit| json!({"username":visit.username,"step":format!("{:?}", visit.step).to_lowercase()}))
                    .collect();
                Native::json(200, &json!({"visits":visits,"wrong":books.wrong}))
            }
            (&Method::POST, "/expire" | "/reset") => {
                *books = Books::default();
                Native::json(200, &json!({"ok":true}))
            }
            _ => Native::json(404, &json!({"error":"code, question, expire (POST)"})),
        }
    }
}
