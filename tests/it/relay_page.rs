//! The page on which a person uses the gateway's browser, in another real Chromium: what the script makes of pictures, a mouse and a
//! keyboard, and how it looks. Pictures of it are left in `target/tmp/relay-*.png`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weir::browser::settings::Surroundings;
use weir::browser::{Browser, Events, Row, Settings, Site, SourceRow};
use weir::fake::{BUTTON, FIELD, FIELD_STEP, PASSWORD};

use super::house::{House, PATIENCE, whole};
use super::person::owner;
use super::relay::{STORAGE, accounts, fragment, sandbox};

/// A person's own browser.
struct Screen {
    browser: Browser,
    session: String,
    _events: Events,
    _folder: tempfile::TempDir,
}

impl Screen {
    async fn open(house: &House, width: u32, height: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let variables = vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())];
        let surroundings = Surroundings { variables, folder: folder.path().to_owned() };
        // This machine is where the gateway is: it is found there.
        let row = Row {
            login_url: Some(house.url("/")),
            credential: SourceRow { cookies: vec!["x".to_owned()], ..SourceRow::default() },
            ..Row::default()
        };
        let sites = vec![Arc::new(Site::compile("here", row).expect("a site"))];
        let settings = Settings { sandbox: sandbox(), sites, ..Settings::default() };
        let (browser, events) = Browser::open(&settings, &surroundings, false).await.expect("a browser");
        let made = browser
            .line
            .ask(None, "Target.createTarget", json!({"url": "about:blank"}))
            .await
            .expect("a page");
        let target = json!({"targetId": made["targetId"], "flatten": true});
        let attached = browser.line.ask(None, "Target.attachToTarget", target).await.expect("attached");
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let screen = Self { browser, session, _events: events, _folder: folder };
        screen.resize(width, height, 1).await;
        screen
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        self.browser
            .line
            .ask(Some(&self.session), method, params)
            .await
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn resize(&self, width: u32, height: u32, fine: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": fine, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    async fn eval(&self, script: &str) -> Value {
        self.try_eval(script).await.unwrap_or_else(|answer| panic!("{script}: {answer}"))
    }

    async fn try_eval(&self, script: &str) -> Result<Value, Value> {
        let params = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", params).await;
        if answer.get("exceptionDetails").is_some() {
            Err(answer)
        } else {
            Ok(answer["result"]["value"].clone())
        }
    }

    /// A page that is just being read lacks what it will have.
    async fn until(&self, script: &str) {
        let since = Instant::now();
        while self.try_eval(script).await != Ok(json!(true)) {
            if since.elapsed() > PATIENCE {
                self.shoot("relay-failed").await;
                panic!("{script}: {}", self.eval("document.body.innerText").await);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn shoot(&self, name: &str) {
        let picture = self.ask("Page.captureScreenshot", json!({"format": "png"})).await;
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().expect("a picture"));
        std::fs::write(format!("{}/{name}.png", env!("CARGO_TARGET_TMPDIR")), bytes.expect("base64"))
            .expect("written");
    }

    /// Clicks where the relayed page has (x, y).
    async fn click(&self, (x, y): (u32, u32)) {
        let place = self.eval("(() => { const c = document.getElementById('page'), b = c.getBoundingClientRect(); return [b.left, b.top, b.width / c.width] })()").await;
        let part = |at: usize| place[at].as_f64().expect("a number");
        let (x, y) = (part(0) + f64::from(x) * part(2), part(1) + f64::from(y) * part(2));
        self.click_here(x, y).await;
    }

    async fn click_here(&self, x: f64, y: f64) {
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            self.ask(
                "Input.dispatchMouseEvent",
                json!({"type": kind, "x": x, "y": y, "button": button, "clickCount": 1}),
            )
            .await;
        }
    }

    async fn press(&self, id: &str) {
        let place = self.eval(&format!("(() => {{ const b = document.getElementById('{id}').getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2] }})()")).await;
        self.click_here(place[0].as_f64().expect("x"), place[1].as_f64().expect("y")).await;
    }

    async fn write(&self, text: &str) {
        for letter in text.chars() {
            let number = u32::from(letter.to_ascii_uppercase());
            for kind in ["keyDown", "keyUp"] {
                let mut event = json!({"type": kind, "key": letter, "windowsVirtualKeyCode": number});
                if kind == "keyDown" {
                    event["text"] = json!(letter);
                }
                self.ask("Input.dispatchKeyEvent", event).await;
            }
        }
    }

    async fn key(&self, key: &str, number: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": number});
            self.ask("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Begins as a page of the gateway's would, and goes where it is told to.
    async fn begin(&self, house: &House) {
        self.ask("Page.navigate", json!({"url": house.url("/")})).await;
        let ask = json!({"platform": "my-site", "account_name": "Ann's account"});
        let script = format!(
            "fetch('/api/v1/oauth/initiate', {{method: 'POST', headers: {{authorization: 'Bearer {}'}}, body: JSON.stringify({ask})}}).then(a => a.json())",
            owner()
        );
        let begun = self.eval(&script).await;
        self.ask("Page.navigate", json!({"url": begun["data"]["auth_url"]})).await;
    }
}

const SHOWN: &str = "document.getElementById('cover').hidden && document.getElementById('page').width > 100";

/// The picture is as wide and as high as it is.
const UNBENT: &str = "(() => { const c = document.getElementById('page'); \
    return Math.abs(c.width / c.height / c.clientWidth * c.clientHeight - 1) < 0.01 })()";

async fn site(house: &House, what: &str) -> Value {
    whole(house.client.get(format!("http://{}/_fake/site{what}", house.fake))).await.json()
}

async fn comes_to(house: &House, step: &str) {
    let since = Instant::now();
    while site(house, "").await["visits"][0]["step"] != step {
        assert!(since.elapsed() < PATIENCE, "nobody came to {step}\n{}", house.log());
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_millis(700)).await;
}

/// Another size in the middle of it; and in the dark.
async fn looks_on_a_phone(screen: &Screen) {
    screen.resize(420, 800, 2).await;
    screen.ask("Emulation.setTouchEmulationEnabled", json!({"enabled": true})).await;
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    screen.ask("Emulation.setEmulatedMedia", dark).await;
    screen.until("document.getElementById('page').width < 420").await;
    screen.until(UNBENT).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(screen.eval("getComputedStyle(document.getElementById('type')).display").await, "block");
    screen.shoot("relay-phone").await;
    screen.ask("Emulation.setTouchEmulationEnabled", json!({"enabled": false})).await;
}

#[tokio::test]
async fn a_person_signs_in_with_a_mouse_and_a_keyboard() {
    let house = House::start(&fragment("", STORAGE)).await;
    let screen = Screen::open(&house, 1100, 760).await;
    screen.begin(&house).await;
    screen.until(SHOWN).await;
    screen.shoot("relay-login").await;
    let second = (FIELD.0, FIELD.1 + FIELD_STEP);
    screen.click(FIELD).await;
    screen.write("amn").await;
    screen.key("Backspace", 8).await;
    screen.key("Backspace", 8).await;
    screen.write("nn").await;
    screen.key("Tab", 9).await;
    screen.write(PASSWORD).await;
    sleep(Duration::from_millis(500)).await;
    screen.shoot("relay-typed").await;
    screen.click(BUTTON).await;
    comes_to(&house, "code").await;
    looks_on_a_phone(&screen).await;
    screen.resize(1100, 760, 1).await;
    screen
        .until("document.getElementById('page').width > 1000 && document.getElementById('page').width < 1100")
        .await;
    // The code is pasted.
    let code = site(&house, "/code").await["code"].as_str().expect("digits").to_owned();
    screen.click(second).await;
    screen.eval(&format!("(() => {{ const data = new DataTransfer(); data.setData('text/plain', '{code}'); document.getElementById('keys').dispatchEvent(new ClipboardEvent('paste', {{clipboardData: data, cancelable: true}})) }})()")).await;
    screen.key("Enter", 13).await;
    screen.click(BUTTON).await;
    comes_to(&house, "question").await;
    screen.shoot("relay-question").await;
    let answer = site(&house, "/question").await["answer"].as_str().expect("a number").to_owned();
    screen.click(second).await;
    screen.write(&answer).await;
    screen.click(BUTTON).await;
    screen.until("document.getElementById('title').textContent === 'Done'").await;
    assert!(
        screen
            .eval("document.getElementById('text').textContent")
            .await
            .as_str()
            .expect("text")
            .contains("Ann's account")
    );
    screen.shoot("relay-done").await;
    assert_eq!(accounts(&house).await[0]["account_name"], "Ann's account");
    // Without its cookie the same address is somebody else's.
    screen.ask("Network.clearBrowserCookies", json!({})).await;
    screen.ask("Page.reload", json!({})).await;
    screen.until("document.body.innerText.includes('Who are you?')").await;
    screen.shoot("relay-who").await;
    screen.browser.close().await;
}

#[tokio::test]
async fn boxes_notices_and_the_end_are_shown() {
    let row = STORAGE.replace("/site/login", "/site/ask").replace("expect: \"#username\", ", "");
    let house = House::start(&fragment("", &row)).await;
    let screen = Screen::open(&house, 1100, 760).await;
    screen.begin(&house).await;
    screen.until("!document.getElementById('box').hidden").await;
    screen.shoot("relay-box").await;
    screen.press("yes").await;
    screen.until("document.getElementById('box').hidden").await;
    screen.until(SHOWN).await;
    // F6 leaves the page: a keyboard alone must find the way out.
    screen.click(FIELD).await;
    screen.key("F6", 117).await;
    assert_eq!(screen.eval("document.activeElement.id").await, "cancel");
    screen.press("cancel").await;
    screen.until("document.getElementById('title').textContent === 'Cancelled'").await;
    screen.shoot("relay-cancelled").await;
    screen.browser.close().await;
}
