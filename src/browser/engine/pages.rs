//! The browser's pages: which of them is shown (the newest: a pop-up is what a person wants to see), pictures of it out, clicks and keys in.
//! In a window on the desktop the person has the page itself, and nothing of this is needed but to know where it is.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::keys;
use super::line::{Event, Line};
use super::stage::{Button, Dialog, Frame, Input, KeyPress, Mouse, MouseKind, Stage};

/// How large a page is until somebody's view is known, and the bounds of what is believed.
const SIZE: (u16, u16) = (1000, 700);
const WIDTHS: (u16, u16) = (320, 1600);
const HEIGHTS: (u16, u16) = (240, 1200);

/// Of the pictures, in percent: letters are still sharp.
const QUALITY: u8 = 75;

/// Most pages at a time: what opens more is not a login page.
const MAX_PAGES: usize = 8;

/// A page that should be drawn and is not is asked again after so long: what was asked while it was being replaced may be lost.
const DRAWN_WITHIN: Duration = Duration::from_millis(1500);

/// A picture that nobody says they have seen counts as seen after so long: their word may be lost.
const SEEN_WITHIN: Duration = Duration::from_secs(3);

/// Longest text that is pasted, or typed by one key, in bytes.
const MAX_PASTED: usize = 4096;
const MAX_KEY: usize = 32;

struct Page {
    session: String,
    target: String,
    url: Option<Url>,
}

pub(super) struct Pages {
    line: Line,
    /// Whose pages they are.
    context: String,
    is_relayed: bool,
    open: Vec<Page>,
    size: (u16, u16),
    viewers: usize,
    /// Since when the shown page should have been drawn anew, and was not.
    due: Option<Instant>,
    /// Pictures that nobody has seen yet, by their page: the browser waits for word of them.
    unseen: Vec<(String, Value)>,
    /// When the last of them came.
    pictured: Instant,
    /// Windows that were opened for what they were not let to, and are not here yet.
    unwelcome: Vec<String>,
    /// Questions that are open, and whose: the first is shown.
    asking: Vec<(String, Dialog)>,
}

impl Pages {
    pub(super) fn new(line: Line, context: String, is_relayed: bool) -> Self {
        Self {
            line,
            context,
            is_relayed,
            open: Vec::new(),
            size: SIZE,
            viewers: 0,
            due: None,
            unseen: Vec::new(),
            pictured: Instant::now(),
            unwelcome: Vec::new(),
            asking: Vec::new(),
        }
    }

    /// Whether somebody looks, by now. Where nobody does any more, nothing is drawn.
    pub(super) fn is_watched(&mut self, stage: &Stage) -> bool {
        let before = std::mem::replace(&mut self.viewers, stage.viewers());
        if before > 0 && self.viewers == 0 {
            self.seen();
            if let Some(page) = self.open.last() {
                self.stop(&page.session);
            }
        }
        if self.pictured.elapsed() > SEEN_WITHIN {
            self.seen();
        }
        if self.viewers > 0 && self.due.is_some_and(|since| since.elapsed() > DRAWN_WITHIN) {
            self.show(stage);
        }
        self.viewers > 0 || !self.is_relayed
    }

    /// Whether a page waits for somebody's answer: such a one does nothing else, and answers nothing.
    pub(super) fn is_asking(&self) -> bool {
        !self.asking.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// All pages with their addresses, the newest first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&str, &Url)> {
        self.open.iter().rev().filter_map(|page| Some((page.session.as_str(), page.url.as_ref()?)))
    }

    /// All pages, the newest first.
    pub(super) fn sessions(&self) -> Vec<String> {
        self.open.iter().rev().map(|page| page.session.clone()).collect()
    }

    /// Takes an event of the browser's.
    pub(super) fn take(&mut self, event: &Event, stage: &Stage) {
        let text = |path: &str| event.params.pointer(path).and_then(Value::as_str).unwrap_or_default();
        match event.method.as_str() {
            // Not by the browser's own way to attach to whatever comes: a window that a page opens would wait for a word that nobody says.
            "Target.targetCreated" if text("/targetInfo/browserContextId") == self.context => {
                let target = json!({"targetId": text("/targetInfo/targetId"), "flatten": true});
                self.line.tell(None, "Target.attachToTarget", target);
            }
            // A window of the browser's own, beside its person's.
            "Target.targetCreated" if self.is_relayed && text("/targetInfo/type") == "page" => {
                self.line.tell(None, "Target.closeTarget", json!({"targetId": text("/targetInfo/targetId")}));
            }
            "Target.attachedToTarget" if text("/targetInfo/type") == "page" => {
                self.opened(text("/sessionId"), text("/targetInfo/targetId"), text("/targetInfo/url"), stage);
            }
            "Target.detachedFromTarget" => self.closed(text("/sessionId"), stage),
            "Target.targetInfoChanged" => {
                let target = text("/targetInfo/targetId");
                if self.is_relayed && is_browsers_own(text("/targetInfo/url")) {
                    self.line.tell(None, "Target.closeTarget", json!({"targetId": target}));
                }
                if let Some(page) = self.open.iter_mut().find(|page| page.target == target) {
                    page.url = Url::parse(text("/targetInfo/url")).ok();
                    self.tell_where(stage);
                }
            }
            // A frame without a parent is the page itself.
            "Page.frameNavigated" if event.params.pointer("/frame/parentId").is_none() => {
                let is_shown =
                    self.open.last().is_some_and(|page| Some(&page.session) == event.session.as_ref());
                if is_shown {
                    self.due = Some(Instant::now());
                }
            }
            "Page.screencastFrame" => self.picture(event, stage),
            "Page.javascriptDialogOpening" => self.asked(event, text("/type"), text("/message"), stage),
            "Page.javascriptDialogClosed" => {
                self.answered(event.session.as_deref().unwrap_or_default(), stage);
            }
            _ => {}
        }
    }

    fn opened(&mut self, session: &str, target: &str, url: &str, stage: &Stage) {
        let is_unwelcome = self.unwelcome.iter().any(|known| known == target);
        self.unwelcome.retain(|known| known != target);
        if self.open.len() >= MAX_PAGES || (is_unwelcome && !self.open.is_empty()) {
            self.line.tell(None, "Target.closeTarget", json!({"targetId": target}));
            return;
        }
        let page = Page { session: session.to_owned(), target: target.to_owned(), url: Url::parse(url).ok() };
        if self.is_relayed {
            self.line.tell(Some(session), "Page.enable", json!({}));
            // Nobody elsewhere picks files of this machine.
            let intercept = json!({"enabled": true});
            self.line.tell(Some(session), "Page.setInterceptFileChooserDialog", intercept);
        }
        if let Some(before) = self.open.last() {
            self.stop(&before.session);
        }
        self.open.push(page);
        self.show(stage);
    }

    /// Closes a window that was opened for what it was not let to: it would hide the one before.
    pub(super) fn close_if_blank(&mut self, target: &str) {
        let is_blank = |page: &Page| page.url.as_ref().is_none_or(|url| url.as_str() == "about:blank");
        match self.open.iter().position(|page| page.target == target) {
            Some(1..) if self.open.iter().any(|page| page.target == target && is_blank(page)) => {
                self.line.tell(None, "Target.closeTarget", json!({"targetId": target}));
            }
            Some(_) => {}
            // It is still on its way here.
            None if self.unwelcome.len() < MAX_PAGES => self.unwelcome.push(target.to_owned()),
            None => {}
        }
    }

    fn closed(&mut self, session: &str, stage: &Stage) {
        self.open.retain(|page| page.session != session);
        self.unseen.retain(|(of, _)| of != session);
        self.answered(session, stage);
        self.show(stage);
    }

    /// A page's question is gone; another page's may be there still.
    fn answered(&mut self, session: &str, stage: &Stage) {
        self.asking.retain(|(of, _)| of != session);
        self.tell_question(stage);
    }

    fn tell_question(&self, stage: &Stage) {
        let dialog = self.asking.first().map(|(_, dialog)| dialog.clone());
        stage.view.send_if_modified(|view| {
            let is_news = view.dialog != dialog;
            view.dialog = dialog;
            is_news
        });
    }

    /// Has the newest page drawn, from now on, for whoever looks.
    fn show(&mut self, stage: &Stage) {
        self.tell_where(stage);
        let Some(page) = self.open.last().filter(|_| self.is_relayed) else { return };
        let session = Some(page.session.as_str());
        let (width, height) = self.size;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.line.tell(session, "Emulation.setDeviceMetricsOverride", metrics);
        if self.viewers > 0 {
            // A page that does not change is not drawn again: from the beginning, for whoever has just come.
            self.stop(&page.session);
            self.line.tell(session, "Page.bringToFront", json!({}));
            let wanted =
                json!({"format": "jpeg", "quality": QUALITY, "maxWidth": width, "maxHeight": height});
            self.line.tell(session, "Page.startScreencast", wanted);
            self.due = Some(Instant::now());
        }
    }

    fn stop(&self, session: &str) {
        if self.is_relayed {
            self.line.tell(Some(session), "Page.stopScreencast", json!({}));
        }
    }

    fn tell_where(&self, stage: &Stage) {
        let url = self.open.last().and_then(|page| page.url.as_ref());
        let host = url.and_then(|url| {
            let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
            Some(format!("{}{port}", url.host_str()?))
        });
        let (host, is_secure) = (host.unwrap_or_default(), url.is_some_and(|url| url.scheme() == "https"));
        stage.view.send_if_modified(|view| {
            let is_news = view.host != host || view.is_secure != is_secure;
            (view.host, view.is_secure) = (host, is_secure);
            is_news
        });
    }

    fn picture(&mut self, event: &Event, stage: &Stage) {
        let (Some(session), Some(ticket)) = (&event.session, event.params.get("sessionId")) else { return };
        let is_shown = self.open.last().is_some_and(|page| page.session == *session);
        let side = |path: &str| event.params.pointer(path).and_then(Value::as_f64).and_then(whole);
        let data = event.params.get("data").and_then(Value::as_str).unwrap_or_default();
        let frame = (side("/metadata/deviceWidth"), side("/metadata/deviceHeight"), STANDARD.decode(data));
        if let (true, (Some(width), Some(height), Ok(jpeg))) = (is_shown, frame) {
            stage.frames.send_replace(Some(Frame { width, height, jpeg: Bytes::from(jpeg) }));
            self.due = None;
        }
        self.pictured = Instant::now();
        self.unseen.push((session.clone(), ticket.clone()));
        if !is_shown || self.viewers == 0 {
            self.seen();
        }
    }

    /// Tells the browser that its pictures have been seen: it may send the next ones.
    fn seen(&mut self) {
        for (session, ticket) in self.unseen.drain(..) {
            self.line.tell(Some(&session), "Page.screencastFrameAck", json!({"sessionId": ticket}));
        }
    }

    fn asked(&mut self, event: &Event, kind: &str, message: &str, stage: &Stage) {
        let Some(session) = &event.session else { return };
        if kind == "beforeunload" {
            // Whoever goes on means to.
            self.line.tell(Some(session), "Page.handleJavaScriptDialog", json!({"accept": true}));
            return;
        }
        let message = message.chars().take(500).collect();
        self.asking.push((session.clone(), Dialog { kind: kind.to_owned(), message }));
        self.tell_question(stage);
    }

    /// Does what a person does.
    pub(super) fn act(&mut self, input: Input, stage: &Stage) {
        match input {
            Input::Arrived => {
                self.viewers = stage.viewers();
                self.show(stage);
            }
            Input::Shown => self.seen(),
            Input::Size { width, height } => {
                let size = bounded(width, height);
                if size != self.size {
                    self.size = size;
                    self.show(stage);
                }
            }
            Input::Mouse(mouse) => self.point(&mouse),
            Input::Key(key) => self.press(&key),
            Input::Text(text) if text.expose().len() <= MAX_PASTED => {
                self.on_page("Input.insertText", json!({"text": text.expose()}));
            }
            Input::Text(_) => {}
            Input::Answer { ok, text } => {
                if let Some((session, _)) = self.asking.first() {
                    let text = text.as_ref().map_or("", |text| text.expose());
                    let answer = json!({"accept": ok, "promptText": text});
                    self.line.tell(Some(session), "Page.handleJavaScriptDialog", answer);
                }
            }
            Input::Back => self.on_page("Runtime.evaluate", json!({"expression": "history.back()"})),
        }
    }

    fn on_page(&self, method: &str, params: Value) {
        if let Some(page) = self.open.last().filter(|_| self.is_relayed) {
            self.line.tell(Some(&page.session), method, params);
        }
    }

    fn point(&self, mouse: &Mouse) {
        let kind = match mouse.kind {
            MouseKind::Down => "mousePressed",
            MouseKind::Up => "mouseReleased",
            MouseKind::Move => "mouseMoved",
            MouseKind::Wheel => "mouseWheel",
        };
        let (button, held) = match mouse.button {
            Button::None => ("none", 0),
            Button::Left => ("left", 1),
            Button::Right => ("right", 2),
            Button::Middle => ("middle", 4),
        };
        let within = |number: f64| if number.is_finite() { number.clamp(-10_000.0, 10_000.0) } else { 0.0 };
        let mut event = json!({
            "type": kind,
            "x": within(mouse.x),
            "y": within(mouse.y),
            "button": button,
            "buttons": if mouse.kind == MouseKind::Up { 0 } else { held },
            "clickCount": mouse.clicks.min(3),
            "modifiers": mouse.modifiers & 0xF,
        });
        if let (MouseKind::Wheel, Some(members)) = (mouse.kind, event.as_object_mut()) {
            members.insert("deltaX".to_owned(), within(mouse.dx).into());
            members.insert("deltaY".to_owned(), within(mouse.dy).into());
        }
        self.on_page("Input.dispatchMouseEvent", event);
    }

    fn press(&self, key: &KeyPress) {
        if [key.key.as_str(), &key.code, key.text.as_deref().unwrap_or_default()]
            .iter()
            .any(|part| part.len() > MAX_KEY)
        {
            return;
        }
        let Some(number) = keys::number_of(key) else { return };
        let kind = match (key.down, &key.text) {
            (false, _) => "keyUp",
            (true, Some(_)) => "keyDown",
            (true, None) => "rawKeyDown",
        };
        let mut event = json!({
            "type": kind,
            "key": key.key,
            "code": key.code,
            "windowsVirtualKeyCode": number,
            "nativeVirtualKeyCode": number,
            "modifiers": key.modifiers & 0xF,
        });
        if let (true, Some(text), Some(members)) = (key.down, &key.text, event.as_object_mut()) {
            members.insert("text".to_owned(), text.as_str().into());
        }
        self.on_page("Input.dispatchKeyEvent", event);
    }
}

/// What is believed of a view.
fn bounded(width: u16, height: u16) -> (u16, u16) {
    (width.clamp(WIDTHS.0, WIDTHS.1), height.clamp(HEIGHTS.0, HEIGHTS.1))
}

/// Whether a page is the browser's and no site's: whoever signs in has no business there.
fn is_browsers_own(url: &str) -> bool {
    let schemes = ["chrome:", "chrome-untrusted:", "chrome-extension:", "devtools:", "view-source:", "file:"];
    schemes.iter().any(|scheme| url.starts_with(scheme))
}

/// A side of a picture.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded before the cast")]
fn whole(number: f64) -> Option<u16> {
    (number >= 1.0 && number <= f64::from(u16::MAX)).then_some(number as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_believed_within_bounds() {
        assert_eq!(bounded(400, 800), (400, 800));
        assert_eq!(bounded(65_535, 65_535), (1600, 1200));
        assert_eq!(bounded(0, 0), (320, 240));
    }
}
