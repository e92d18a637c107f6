//! A person at the page on which a browser of the gateway's is relayed: opens it, sees pictures, clicks and types. Nothing else: whatever a
//! test wants to have happened in the browser must be done the way a person does it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use weir::fake::{BUTTON, FIELD, FIELD_STEP, PASSWORD};

use super::house::{Answer, House, PATIENCE, mint, whole};

/// Who adds accounts.
pub fn owner() -> String {
    mint(json!({"scope": "chat accounts"}))
}

/// A sign-in that was begun.
#[derive(Debug, Clone)]
pub struct Begun {
    pub id: String,
    pub page: String,
    /// As a browser would send it.
    pub cookie: String,
}

/// Asks for a sign-in, as whoever has this token.
pub async fn initiate(house: &House, token: &str, platform: &str, name: &str) -> Answer {
    let ask = json!({"platform": platform, "account_name": name, "redirect_after": "/console"});
    whole(house.client.post(house.url("/api/v1/oauth/initiate")).bearer_auth(token).json(&ask)).await
}

pub async fn begin(house: &House, platform: &str) -> Begun {
    let begun = initiate(house, &owner(), platform, "mine").await;
    assert_eq!(begun.status, 200, "{}\n{}", begun.text(), house.log());
    read(&begun)
}

/// What an answer to `initiate` says.
pub fn read(begun: &Answer) -> Begun {
    let data = &begun.json()["data"];
    assert_eq!(data["kind"], "browser", "{data}");
    let text = |name: &str| data[name].as_str().expect("text").to_owned();
    let cookie = begun.header("set-cookie");
    for part in ["; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().expect("a cookie").to_owned();
    Begun { id: text("state"), page: text("auth_url"), cookie }
}

/// How a sign-in stands, for programs.
pub async fn state(house: &House, begun: &Begun) -> Value {
    let url = house.url(&format!("/api/v1/oauth/browser/{}", begun.id));
    let answer = whole(house.client.get(url).bearer_auth(owner())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].clone()
}

/// How it ended.
pub async fn end(house: &House, begun: &Begun) -> Value {
    let since = Instant::now();
    loop {
        let now = state(house, begun).await;
        if !now["message"].is_null() {
            return now;
        }
        assert!(since.elapsed() < PATIENCE * 2, "it goes on: {now}\n{}", house.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The ticket that stands in a page.
pub fn ticket(page: &Answer) -> String {
    let text = page.text();
    let (_, rest) = text.split_once("data-ticket=\"").unwrap_or_else(|| panic!("no ticket: {text}"));
    rest.split('"').next().expect("its end").to_owned()
}

/// Opens the page, and connects as its script would.
pub async fn connect(
    house: &House,
    begun: &Begun,
    cookie: &str,
    origin: Option<&str>,
    ticket: &str,
) -> Result<WebSocketStream<TcpStream>, u16> {
    let url = format!("ws://{}/browser/{}/relay", house.listen, begun.id);
    let mut request = url.into_client_request().expect("a request");
    let mut put = |name: &'static str, value: &str| {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    };
    put("cookie", cookie);
    put("sec-websocket-protocol", &format!("weir-relay, {ticket}"));
    if let Some(origin) = origin {
        put("origin", origin);
    }
    let stream = TcpStream::connect(house.listen).await.expect("a connection");
    match timeout(PATIENCE, client_async(request, stream)).await.expect("in time") {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(refusal)) => Err(refusal.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// Somebody who looks at the page.
pub struct Person<'a> {
    house: &'a House,
    socket: WebSocketStream<TcpStream>,
    /// What the page was told last.
    pub told: Value,
    pub pictures: usize,
    pub last_picture: Vec<u8>,
}

impl<'a> Person<'a> {
    /// Opens the page in the browser that began.
    pub async fn open(house: &'a House, begun: &Begun) -> Self {
        let page = whole(house.client.get(&begun.page).header("cookie", &begun.cookie)).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let origin = format!("http://{}", house.listen);
        let socket = connect(house, begun, &begun.cookie, Some(&origin), &ticket(&page)).await;
        let socket = socket.expect("let in");
        let mut person = Self { house, socket, told: Value::Null, pictures: 0, last_picture: Vec::new() };
        person.say(json!({"t": "size", "width": 900, "height": 600})).await;
        person
    }

    async fn say(&mut self, what: Value) {
        self.socket.send(Message::text(what.to_string())).await.expect("sent");
    }

    /// Takes what comes; false when the connection has ended.
    async fn take(&mut self) -> bool {
        let Some(lives) = self.take_within(PATIENCE).await else {
            panic!("nothing came, last told {}\n{}", self.told, self.house.log());
        };
        lives
    }

    /// Takes what comes within this time, if something does.
    async fn take_within(&mut self, patience: Duration) -> Option<bool> {
        // Only what waits may be given up: a picture that came is always told to have been seen.
        match timeout(patience, self.socket.next()).await.ok()? {
            Some(Ok(Message::Text(text))) => self.told = serde_json::from_str(&text).expect("JSON"),
            Some(Ok(Message::Binary(bytes))) => {
                assert_eq!(bytes[4..7], [0xFF, 0xD8, 0xFF], "a JPEG");
                self.pictures += 1;
                self.last_picture = bytes[4..].to_vec();
                self.say(json!({"t": "shown"})).await;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Some(false),
        }
        Some(true)
    }

    /// Looks until what the page was told is so.
    pub async fn sees(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let since = Instant::now();
        while !is_so(&self.told) {
            assert!(since.elapsed() < PATIENCE * 2, "{what}: not seen, last told {}", self.told);
            assert!(self.take().await, "{what}: the connection ended, last told {}", self.told);
        }
    }

    /// Looks until it is their turn, and there is something to see.
    pub async fn waits_for_turn(&mut self) {
        self.sees("it is their turn", |told| told["state"] == "waiting").await;
        self.settles(0).await;
    }

    /// Looks until there are more pictures than `before`, and then no more for a moment: the page is there.
    pub async fn settles(&mut self, before: usize) {
        let since = Instant::now();
        let (mut last, mut still) = (self.pictures, Instant::now());
        while last <= before || still.elapsed() < Duration::from_millis(700) {
            if since.elapsed() > PATIENCE {
                let (seen, log) = (self.keeps_picture(), self.house.log());
                panic!(
                    "{} pictures came after {before}, the last in {seen}, told {}\n{log}",
                    self.pictures, self.told
                );
            }
            self.take_within(Duration::from_millis(50)).await;
            if self.pictures != last {
                (last, still) = (self.pictures, Instant::now());
            }
        }
    }

    pub async fn click(&mut self, (x, y): (u32, u32)) {
        for (kind, button) in [("move", "none"), ("down", "left"), ("up", "left")] {
            let clicks = u8::from(kind != "move");
            self.say(json!({"t": "mouse", "kind": kind, "x": x, "y": y, "button": button, "clicks": clicks}))
                .await;
        }
    }

    /// Key by key.
    pub async fn write(&mut self, text: &str) {
        for letter in text.chars() {
            let number = u32::from(letter.to_ascii_uppercase());
            for down in [true, false] {
                self.say(json!({"t": "key", "down": down, "key": letter, "number": number, "text": letter}))
                    .await;
            }
        }
    }

    /// A key that writes nothing, with what is held beside it.
    pub async fn presses(&mut self, key: &str, number: u16, modifiers: u8) {
        for down in [true, false] {
            self.say(json!({"t": "key", "down": down, "key": key, "number": number, "modifiers": modifiers}))
                .await;
        }
    }

    pub async fn paste(&mut self, text: &str) {
        self.say(json!({"t": "text", "text": text})).await;
    }

    pub async fn answers(&mut self, ok: bool) {
        self.say(json!({"t": "answer", "ok": ok, "text": null})).await;
    }

    pub async fn cancels(&mut self) {
        self.say(json!({"t": "cancel"})).await;
    }

    /// What the site shows on another device, or a person reads off the page.
    pub async fn looks_up(&self, what: &str) -> Value {
        let url = format!("http://{}/_fake/site/{what}", self.house.fake);
        let since = Instant::now();
        loop {
            let answer = whole(self.house.client.get(&url)).await;
            if answer.status == 200 {
                return answer.json();
            }
            assert!(since.elapsed() < PATIENCE, "{what}: {}", answer.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits, looking, until the site says that somebody has come so far.
    pub async fn comes_to(&mut self, step: &str) {
        let url = format!("http://{}/_fake/site", self.house.fake);
        let (since, before) = (Instant::now(), self.pictures);
        loop {
            let visits = whole(self.house.client.get(&url)).await.json()["visits"].clone();
            if visits.as_array().expect("a list").iter().any(|visit| visit["step"] == step) {
                break;
            }
            if since.elapsed() > PATIENCE {
                panic!(
                    "nobody came to {step}: {visits}, and is seen in {}\n{}",
                    self.keeps_picture(),
                    self.house.log()
                );
            }
            // Pictures want to be seen, or there are no more.
            self.take_within(Duration::from_millis(50)).await;
        }
        self.settles(before).await;
    }

    /// Keeps what is seen now, for whoever wants to know why a test failed.
    fn keeps_picture(&self) -> String {
        let path = format!("{}/relayed-{}.jpg", env!("CARGO_TARGET_TMPDIR"), self.house.listen.port());
        std::fs::write(&path, &self.last_picture).expect("written");
        path
    }

    /// Looks for a while: a page needs a moment to be there.
    pub async fn looks_for(&mut self, length: Duration) {
        let since = Instant::now();
        while since.elapsed() < length {
            self.take_within(Duration::from_millis(50)).await;
        }
    }

    /// Password, code, question, as a person does them.
    pub async fn signs_in(&mut self) {
        let second = (FIELD.0, FIELD.1 + FIELD_STEP);
        self.click(FIELD).await;
        self.write("ann").await;
        self.click(second).await;
        // Out of their password manager.
        self.paste(PASSWORD).await;
        self.click(BUTTON).await;
        self.comes_to("code").await;
        let code = self.looks_up("code").await["code"].as_str().expect("six digits").to_owned();
        self.click(second).await;
        self.write(&code).await;
        self.click(BUTTON).await;
        self.comes_to("question").await;
        let answer = self.looks_up("question").await["answer"].as_str().expect("a number").to_owned();
        self.click(second).await;
        self.write(&answer).await;
        self.click(BUTTON).await;
    }
}
