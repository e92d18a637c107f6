//! What a person and a sign-in have to say to each other while it lasts. Why channels and not calls: persons come and go, several pages
//! of theirs may be open, and the sign-in goes on by itself.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use crate::secret::Secret;

/// Clicks and keys on their way.
const MAX_INPUTS: usize = 256;

/// A picture of the page.
#[derive(Clone)]
pub struct Frame {
    /// Of the page, in its own pixels: where clicks are counted in.
    pub width: u16,
    pub height: u16,
    pub jpeg: Bytes,
}

impl fmt::Debug for Frame {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Frame({}x{})", self.width, self.height)
    }
}

/// What a person does.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody looks. Who no longer does is seen by the pictures that nobody receives.
    Arrived,
    /// The last picture has been shown: the next may come.
    Shown,
    /// How large their view is.
    Size {
        width: u16,
        height: u16,
    },
    Mouse(Mouse),
    Key(KeyPress),
    /// Pasted, or put together by their keyboard.
    Text(Secret),
    /// To a question that the page asks in a box of the browser's own.
    Answer {
        ok: bool,
        text: Option<Secret>,
    },
    Back,
}

/// What a pointer does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mouse {
    pub kind: MouseKind,
    pub x: f64,
    pub y: f64,
    #[serde(default)]
    pub button: Button,
    #[serde(default)]
    pub clicks: u8,
    #[serde(default)]
    pub modifiers: u8,
    #[serde(default)]
    pub dx: f64,
    #[serde(default)]
    pub dy: f64,
}

/// See [`Mouse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MouseKind {
    Down,
    Up,
    Move,
    Wheel,
}

/// See [`Mouse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Button {
    #[default]
    None,
    Left,
    Middle,
    Right,
}

/// A key goes down or up. Which one is nobody's business: it may be part of a password.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPress {
    pub down: bool,
    pub key: String,
    #[serde(default)]
    pub code: String,
    /// The number that Windows has for the key.
    #[serde(default)]
    pub number: u16,
    /// What it writes, if it writes something.
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub modifiers: u8,
}

impl fmt::Debug for KeyPress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("KeyPress")
    }
}

/// How far a sign-in is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The browser starts, the page loads.
    #[default]
    Opening,
    /// It is the person's turn.
    Waiting,
    /// They are signed in: what the site left is taken.
    Taking,
}

/// Something a person should know meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A page of another host was asked for.
    TurnedAway(String),
    /// What the row expects is not there (yet).
    LooksOdd,
}

/// A box of the browser's own that a page has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// `alert`, `confirm`, `prompt` or `beforeunload`.
    pub kind: String,
    pub message: String,
}

/// What a person sees beside the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub phase: Phase,
    /// Whose page is shown.
    pub host: String,
    pub is_secure: bool,
    pub notice: Option<Notice>,
    pub dialog: Option<Dialog>,
}

/// The sign-in's side.
#[derive(Debug)]
pub struct Stage {
    pub view: watch::Sender<View>,
    pub frames: watch::Sender<Option<Frame>>,
    pub inputs: mpsc::Receiver<Input>,
}

impl Drop for Stage {
    /// Who asks later how it went holds the other side: the last picture, and what the page asked, are not kept for them.
    fn drop(&mut self) {
        self.frames.send_replace(None);
        self.view.send_modify(|view| view.dialog = None);
    }
}

impl Stage {
    /// How many look on, beside whoever keeps the other side.
    pub(super) fn viewers(&self) -> usize {
        self.frames.receiver_count().saturating_sub(1)
    }
}

/// The persons' side. Whoever looks on has a clone.
#[derive(Clone, Debug)]
pub struct Wings {
    pub view: watch::Receiver<View>,
    pub frames: watch::Receiver<Option<Frame>>,
    pub inputs: mpsc::Sender<Input>,
}

/// Both sides.
pub fn stage() -> (Stage, Wings) {
    let (view, seen) = watch::channel(View::default());
    let (frames, shown) = watch::channel(None);
    let (done, inputs) = mpsc::channel(MAX_INPUTS);
    (Stage { view, frames, inputs }, Wings { view: seen, frames: shown, inputs: done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_end_with_the_sign_in() {
        let (stage, wings) = stage();
        stage.frames.send_replace(Some(Frame { width: 1, height: 1, jpeg: Bytes::from_static(b"canary") }));
        assert!(wings.frames.borrow().is_some());
        drop(stage);
        assert!(wings.frames.borrow().is_none());
    }

    #[test]
    fn what_is_typed_does_not_show() {
        let key: KeyPress =
            serde_json::from_str(r#"{"down":true,"key":"q","code":"KeyQ","number":81,"text":"q"}"#)
                .expect("right");
        let inputs = [
            Input::Key(key),
            Input::Text(Secret::new("canary")),
            Input::Answer { ok: true, text: Some(Secret::new("canary")) },
        ];
        let shown = format!("{inputs:?}");
        assert!(!shown.contains('q') && !shown.contains("Q") && !shown.contains("canary"), "{shown}");
    }
}
