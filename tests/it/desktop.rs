//! A sign-in in a window on a desktop: an X server without a screen, and a person in front of it who has a mouse and a keyboard.

use std::process::Command;
use std::time::Duration;

use weir::fake::PASSWORD;

use super::house::{Answer, House, until, whole};
use super::person::{begin, connect, end, ticket};
use super::relay::{STORAGE, ask, fragment, nothing_is_left, origin};

/// See the module.
struct Desktop {
    server: std::process::Child,
    display: String,
}

impl Desktop {
    fn start() -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // It picks a display that is free, and says which.
        let shell = "exec Xvfb -displayfd 1 -screen 0 1280x1000x24 -nolisten tcp 2>/dev/null";
        let server = Command::new("sh").args(["-c", shell]).stdout(writer).spawn().expect("Xvfb");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut line).expect("its display");
        Self { server, display: format!(":{}", line.trim()) }
    }

    fn does(&self, what: &[&str]) -> String {
        let output =
            Command::new("xdotool").args(what).env("DISPLAY", &self.display).output().expect("xdotool");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Into the field that has the focus, and on to the next.
    fn fills_in(&self, text: &str, then: &str) {
        self.does(&["type", "--delay", "30", text]);
        self.does(&["key", then]);
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

#[tokio::test]
async fn on_a_desktop_the_window_itself_is_there() {
    let desktop = Desktop::start();
    let environment: &'static [(&'static str, &'static str)] =
        Box::leak(Box::new([("DISPLAY", &*Box::leak(desktop.display.clone().into_boxed_str()))]));
    let auto = fragment("", STORAGE).replace("window: relayed", "window: auto");
    let house = House::start_in(&auto, "", environment).await;
    let begun = begin(&house, "my-site").await;
    // The page says where to look.
    let page = whole(house.client.get(&begun.page).header("cookie", &begun.cookie)).await;
    assert!(page.text().contains("data-relayed=\"false\""));
    let socket = connect(&house, &begun, &begun.cookie, Some(&origin(&house)), &ticket(&page)).await;
    assert!(socket.is_ok());
    until("the window is there", || async { !desktop.does(&["search", "--name", "Log in"]).is_empty() })
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Into the page, where nothing is; from there to its first field.
    desktop.does(&["mousemove", "700", "650", "click", "1"]);
    desktop.does(&["key", "Tab"]);
    desktop.fills_in("ann", "Tab");
    desktop.fills_in(PASSWORD, "Return");
    until("the second step", || async { site(&house, "/code").await.status == 200 }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let code = site(&house, "/code").await.json()["code"].as_str().expect("digits").to_owned();
    desktop.does(&["key", "Tab"]);
    desktop.fills_in(&code, "Return");
    until("the question", || async { site(&house, "/question").await.status == 200 }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answer = site(&house, "/question").await.json()["answer"].as_str().expect("a number").to_owned();
    desktop.does(&["key", "Tab"]);
    desktop.fills_in(&answer, "Return");
    let ended = end(&house, &begun).await;
    assert_eq!(ended["state"], "done", "{ended}");
    assert_eq!(ask(&house, "my-site/gpt-4o").await, 200);
    nothing_is_left(&house, &[]).await;
    // Whoever closes the window wants no more.
    let begun = begin(&house, "my-site").await;
    until("the window is there", || async { !desktop.does(&["search", "--name", "Log in"]).is_empty() })
        .await;
    desktop.does(&["mousemove", "700", "650", "click", "1"]);
    desktop.does(&["key", "ctrl+w"]);
    let ended = end(&house, &begun).await;
    assert!(ended["message"].as_str().expect("words").contains("window was closed"), "{ended}");
    nothing_is_left(&house, &[]).await;
}

async fn site(house: &House, what: &str) -> Answer {
    whole(house.client.get(format!("http://{}/_fake/site{what}", house.fake))).await
}
