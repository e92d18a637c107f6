//! Sites that do in a browser what login pages seldom do, and persons who want of it what it is not for.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::house::House;
use super::person::{Person, begin, end};
use super::puppet::{Puppet, answer};
use super::relay::{fragment, nothing_is_left};

/// Where pages of [`Strange`] have their field and their button.
const FIELD: (u32, u32) = (50, 20);
const BUTTON: (u32, u32) = (50, 100);

/// A site of a test's own, and what it was asked for.
struct Strange {
    puppet: Puppet,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Strange {
    /// With these pages, by their paths; `/basic` asks for a password in the browser's own way.
    async fn start(pages: &[(&'static str, String)]) -> Self {
        let pages: Arc<[(&str, String)]> = pages.into();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let known = Arc::clone(&asked);
        let puppet = Puppet::start(move |mut hand| {
            let (pages, asked) = (Arc::clone(&pages), Arc::clone(&known));
            async move {
                while let Some(request) = hand.request().await {
                    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                    let page = pages.iter().find(|(known, _)| *known == path);
                    let (status, more) = match path.as_str() {
                        "/basic" => ("401 Unauthorized", "www-authenticate: Basic realm=\"x\"\r\n"),
                        _ => ("200 OK", ""),
                    };
                    let headers = format!("content-type: text/html\r\n{more}");
                    asked.lock().push(path.clone());
                    if !hand.say(answer(status, &headers, page.map_or("", |(_, page)| page))).await {
                        return;
                    }
                }
            }
        })
        .await;
        Self { puppet, asked }
    }

    /// Its row, with `more` in it.
    fn row(&self, more: &str) -> String {
        format!("login_url: \"http://{}/login\", {more}", self.puppet.address)
    }

    fn was_asked(&self, path: &str) -> bool {
        self.asked.lock().iter().any(|known| known == path)
    }

    async fn is_asked(&self, path: &str, person: &mut Person<'_>) {
        let since = Instant::now();
        while !self.was_asked(path) {
            let asked = self.asked.lock().clone();
            assert!(since.elapsed() < Duration::from_secs(15), "{path}: {asked:?} {}", person.told);
            person.looks_for(Duration::from_millis(100)).await;
        }
    }
}

/// A page with a field that tells the site what is typed, and a button that does this.
fn page(does: &str) -> String {
    format!(
        "<input style='position:absolute;left:0;top:0;width:300px;height:40px' oninput=\"fetch('/typed?'+this.value)\">\
         <button style='position:absolute;left:0;top:80px;width:200px;height:40px' onclick=\"{does}\">Go on</button>"
    )
}

const TOKEN: &str = "credential: {storage: token}";

/// New tabs, the browser's settings, its tools for developers, a page's source: not by a key, nor by one that says to be another.
#[tokio::test]
async fn keys_of_the_browsers_own_do_nothing() {
    let site = Strange::start(&[("/login", page(""))]).await;
    let house = House::start(&fragment("", &site.row(TOKEN))).await;
    let begun = begin(&house, "my-site").await;
    let mut person = Person::open(&house, &begun).await;
    person.waits_for_turn().await;
    let here = json!(site.puppet.address.to_string());
    for (key, number, modifiers) in [
        ("t", 84, 2),
        ("n", 78, 2),
        ("j", 74, 2),
        ("u", 85, 2),
        ("o", 79, 10),
        ("Home", 36, 1),
        ("F1", 112, 0),
        ("F12", 123, 0),
        ("a", 74, 2),
        ("a", 123, 0),
    ] {
        person.click(FIELD).await;
        person.presses(key, number, modifiers).await;
        person.looks_for(Duration::from_millis(500)).await;
        assert_eq!(person.told["host"], here, "{key} {number} {modifiers}: {}", person.told);
    }
    person.click(FIELD).await;
    person.write("z").await;
    site.is_asked("/typed?z", &mut person).await;
}

/// A page that asks something answers nobody else meanwhile.
#[tokio::test]
async fn a_box_is_answered_before_the_page_is_there_and_after_the_sign_in() {
    let login = format!("<script>alert('Mind the gap')</script><p id='u'>{}", page("location='/home'"));
    let home = "<script>setTimeout(() => { alert('Welcome'); localStorage.token = 'tok' }, 700)</script>";
    let site = Strange::start(&[("/login", login), ("/home", home.to_owned())]).await;
    let wait_for = format!("wait_for: {{url: \"http://{}/home\"}}", site.puppet.address);
    let row = site.row(&format!("expect: \"#u\", {wait_for}, {TOKEN}"));
    let house = House::start(&fragment("    time_limit: 60s\n", &row)).await;
    let begun = begin(&house, "my-site").await;
    let mut person = Person::open(&house, &begun).await;
    person.sees("asked", |told| told["dialog"]["message"] == "Mind the gap").await;
    person.looks_for(Duration::from_secs(1)).await;
    let since = Instant::now();
    person.answers(true).await;
    person.sees("answered", |told| told["dialog"].is_null()).await;
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    person.waits_for_turn().await;
    person.click(BUTTON).await;
    person.sees("asked", |told| told["dialog"]["message"] == "Welcome").await;
    // Whoever reads it slowly is signed in all the same.
    person.looks_for(Duration::from_secs(25)).await;
    person.answers(true).await;
    person.sees("done", |told| told["state"] == "done").await;
    nothing_is_left(&house, &[]).await;
}

/// A login page that asks for a password in a box of the browser's own, which is not relayed, shows what it shows to who has none.
#[tokio::test]
async fn a_password_box_of_the_browsers_own_hides_nothing() {
    let after = "<p>No password</p><script>fetch('/seen')</script>".to_owned();
    let site = Strange::start(&[("/login", page("location='/basic'")), ("/basic", after)]).await;
    let house = House::start(&fragment("", &site.row(TOKEN))).await;
    let begun = begin(&house, "my-site").await;
    let mut person = Person::open(&house, &begun).await;
    person.waits_for_turn().await;
    person.click(BUTTON).await;
    site.is_asked("/seen", &mut person).await;
}

/// A link for another program starts none on the gateway's machine.
#[tokio::test]
async fn a_link_to_a_program_starts_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let started = folder.path().join("started");
    for name in ["xdg-open", "xdg-email"] {
        let program = folder.path().join(name);
        let script = format!("#!/bin/sh\necho \"$0 $*\" >>{}\n", started.display());
        std::fs::write(&program, script).expect("written");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("set");
    }
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", folder.path().display());
    let environment: &'static [(&'static str, &'static str)] =
        Box::leak(Box::new([("PATH", &*Box::leak(path.into_boxed_str()))]));
    let site = Strange::start(&[(
        "/login",
        page("fetch('/went');location=n++?'mailto:a@example.com':'weixin://a'") + "<script>n=0</script>",
    )])
    .await;
    let house = House::start_in(&fragment("", &site.row(TOKEN)), "", environment).await;
    let begun = begin(&house, "my-site").await;
    let mut person = Person::open(&house, &begun).await;
    person.waits_for_turn().await;
    person.click(BUTTON).await;
    site.is_asked("/went", &mut person).await;
    person.looks_for(Duration::from_secs(2)).await;
    // Nor does it ask where nobody sees it.
    person.click(FIELD).await;
    person.write("z").await;
    site.is_asked("/typed?z", &mut person).await;
    person.click(BUTTON).await;
    person.looks_for(Duration::from_secs(3)).await;
    assert!(!started.exists(), "{}", std::fs::read_to_string(&started).unwrap_or_default());
}

/// The login page is at an address that fits what is waited for, too; and a selector that is none is told at once.
#[tokio::test]
async fn rows_that_fit_too_much_or_are_wrong() {
    let login = page("localStorage.token='tok'");
    let site = Strange::start(&[("/login", login)]).await;
    let everywhere = format!("wait_for: {{url: \"http://{}/*\"}}", site.puppet.address);
    let row = site.row(&format!("{everywhere}, {TOKEN}"));
    let house = House::start(&fragment("    time_limit: 30s\n", &row)).await;
    let begun = begin(&house, "my-site").await;
    let mut person = Person::open(&house, &begun).await;
    person.waits_for_turn().await;
    // Longer than what is left behind may take.
    person.looks_for(Duration::from_secs(13)).await;
    assert_eq!(person.told["state"], "waiting", "{}", person.told);
    person.click(BUTTON).await;
    person.sees("done", |told| told["state"] == "done").await;

    let row = site.row(&format!("expect: \"#[u\", {TOKEN}"));
    let house = House::start(&fragment("", &row)).await;
    let begun = begin(&house, "my-site").await;
    let since = Instant::now();
    let ended = end(&house, &begun).await;
    assert!(ended["message"].as_str().expect("words").contains("`#[u` is no selector"), "{ended}");
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    nothing_is_left(&house, &[]).await;
}
