//! `weir account login`: the real command beside the real gateway, or alone over its store; and a browser on the same machine, on another
//! one, or none at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::house::{House, WEIR, client, until, whole};
use super::idp::{Idp, accounts, chat, owner, providers};
use super::replicas::status;

const MODEL: &str = "huggingface/deepseek-ai/DeepSeek-V4-Pro";

/// The command, at its first line: where to agree.
pub struct Login {
    child: Child,
    told: Value,
    out: BufReader<ChildStdout>,
    typed: Option<ChildStdin>,
}

impl Login {
    pub async fn start(house: &House, arguments: &[&str]) -> Self {
        let mut command = Command::new(WEIR);
        command.args(["account", "login", "huggingface"]).args(arguments).arg("-c").arg(house.config_file());
        command
            .env("TMPDIR", house.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let begun = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("it runs");
            let mut out = BufReader::new(child.stdout.take().expect("piped"));
            let mut line = String::new();
            out.read_line(&mut line).expect("read");
            let typed = child.stdin.take();
            Self { told: serde_json::from_str(&line).unwrap_or_default(), child, out, typed }
        });
        begun.await.expect("joined")
    }

    pub fn text(&self, name: &str) -> &str {
        self.told[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.told))
    }

    fn type_in(&mut self, line: &str) {
        writeln!(self.typed.as_mut().expect("open"), "{line}").expect("typed");
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end: whether that was a good one, and what it said.
    pub async fn ended(self) -> (bool, String) {
        let Self { mut child, mut out, typed, .. } = self;
        let id = child.id().to_string();
        let work = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            out.read_to_string(&mut said).expect("read");
            child.stderr.take().expect("piped").read_to_string(&mut said).expect("read");
            drop(typed);
            (child.wait().expect("a child").success(), said)
        });
        let Ok(ended) = tokio::time::timeout(super::house::PATIENCE, work).await else {
            drop(Command::new("kill").arg(id).status());
            panic!("the command goes on and on");
        };
        ended.expect("joined")
    }
}

async fn house() -> (House, Idp) {
    let house = House::start(&providers(&["huggingface"])).await;
    let idp = Idp::of(&house, "huggingface");
    idp.tell("settings", json!({"auto": "ann", "interval_s": 1})).await;
    (house, idp)
}

/// Agrees: where the provider sends the browser.
pub async fn agreed(login: &Login) -> String {
    let sent = whole(client().build().expect("a client").get(login.text("auth_url"))).await;
    assert!((300..400).contains(&sent.status), "{}", sent.text());
    sent.header("location").to_owned()
}

pub async fn browse(url: &str) -> super::house::Answer {
    whole(client().build().expect("a client").get(url)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_on_the_same_machine_comes_back_to_the_terminal() {
    let (mut house, idp) = house().await;
    for is_running in [true, false] {
        if !is_running {
            house.signal("TERM");
            assert!(house.ended().await.success());
        }
        let login = Login::start(&house, &["--name", "mine", "--owner", "alpha"]).await;
        let address = agreed(&login).await;
        assert!(address.starts_with(&format!("{}?", login.text("redirect_uri"))), "{address}");
        assert!(!address.starts_with(&house.url("")), "the terminal's own port");
        let (place, query) = address.split_once('?').expect("a query");
        // Icons, other tabs and made-up states change nothing.
        let origin = place.rsplit_once("/huggingface").expect("a path").0;
        assert_eq!(browse(&format!("{origin}/favicon.ico")).await.status, 404);
        for stray in [
            format!("{place}?state=x&code=y"),
            format!("{origin}/elsewhere?{query}"),
            format!("{address}&state=z"),
        ] {
            let told = browse(&stray).await;
            assert_eq!(told.status, 400, "{stray}: {}", told.text());
        }
        drop(tokio::net::TcpStream::connect(origin.trim_start_matches("http://")).await.expect("open"));
        let done = browse(&address).await;
        assert!(done.status == 200 && done.text().contains("was added"), "{}", done.text());
        assert!(done.header("content-security-policy").contains("default-src 'none'"));
        let (is_good, said) = login.ended().await;
        assert!(is_good && said.contains("\"account_name\":\"mine\""), "{said}");
        assert!(!said.contains("hf_oauth_"), "{said}");
        if !is_running {
            house.restart().await;
        }
        let listed = accounts(&house, &owner()).await;
        assert_eq!(
            (listed.len(), &listed[0]["account_name"]),
            (1, &json!("mine")),
            "the same one, twice agreed to"
        );
        assert_eq!(status(chat(&house, MODEL)).await, 200);
    }
    assert_eq!(idp.grants("authorization_code").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_on_another_machine_shows_an_address_to_paste() {
    let (house, _idp) = house().await;
    let mut login = Login::start(&house, &["--paste"]).await;
    let address = agreed(&login).await;
    assert!(
        address.starts_with(&house.url("/huggingface-callback?")),
        "the gateway's own callback: {address}"
    );
    // The gateway takes nothing from a browser that did not begin.
    let refused = browse(&address).await;
    assert!(refused.status == 400 && refused.text().contains("Paste"), "{}", refused.text());
    login.type_in("");
    login.type_in("what now?");
    login.type_in("http://127.0.0.1:1/huggingface-callback?state=x&code=y");
    login.type_in(&address);
    let (is_good, said) = login.ended().await;
    assert!(is_good && said.contains("\"account_name\":\"huggingface\""), "{said}");
    // Nobody's but the operators'; it carries everyone.
    assert!(accounts(&house, &owner()).await.is_empty());
    assert_eq!(status(chat(&house, MODEL)).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_browser_a_code_is_typed_in_elsewhere() {
    let (mut house, idp) = house().await;
    idp.tell("settings", json!({"auto": null, "interval_s": 1})).await;
    for name in ["with the gateway", "without"] {
        let login =
            Login::start(&house, &["--flow", "device_code", "--name", name, "--owner", "alpha"]).await;
        assert_eq!(login.text("user_code").len(), 9);
        idp.tell("device", json!({"user_code": login.text("user_code"), "person": "ann"})).await;
        let (is_good, said) = login.ended().await;
        assert!(is_good && said.contains(name), "{said}");
        if name == "with the gateway" {
            house.signal("TERM");
            assert!(house.ended().await.success());
        }
    }
    house.restart().await;
    until("both are there", || async { accounts(&house, &owner()).await.len() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_to_nothing_is_an_exit_code_and_a_sentence() {
    let (house, idp) = house().await;
    for (arguments, why) in [
        (&["--flow", "magic"][..], "wrong kind"),
        (&["--name", "\u{7}"][..], "account_name"),
        (&["--owner", ""][..], "'owner' is"),
    ] {
        let (is_good, said) = Login::start(&house, arguments).await.ended().await;
        assert!(!is_good && said.contains(why), "{arguments:?}: {said}");
    }
    let (is_good, said) = house.run(&["account", "login", "openai"]).await;
    assert!(!is_good && said.contains("no sign-in"), "{said}");
    idp.tell("settings", json!({"auto": "ann", "auto_deny": true})).await;
    let login = Login::start(&house, &[]).await;
    let told = browse(&agreed(&login).await).await;
    assert!(told.status == 400 && told.text().contains("access_denied"), "{}", told.text());
    let (is_good, said) = login.ended().await;
    assert!(!is_good && said.contains("access_denied"), "{said}");
    idp.tell("settings", json!({"auto": null, "auto_deny": null, "interval_s": 1})).await;
    let login = Login::start(&house, &["--flow", "device_code"]).await;
    idp.tell("device", json!({"user_code": login.text("user_code"), "answer": "deny"})).await;
    let (is_good, said) = login.ended().await;
    assert!(!is_good && said.contains("said no"), "{said}");
    assert_eq!(house.admin(http::Method::GET, "/admin/accounts").await.json()["accounts"], json!([]));
}
