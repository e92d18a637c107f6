//! Which keys of a person's reach a browser that is relayed. Why: a key that its page leaves alone is a shortcut of the browser's own (a new
//! tab, its settings, its tools for developers), and whoever signs in on a page of the gateway's has no business there.

use super::stage::KeyPress;

/// Held with a key, as the protocol counts.
const ALT: u8 = 1;
const CONTROL: u8 = 2;
const META: u8 = 4;
const SHIFT: u8 = 8;

/// Keys that write nothing, by their names, with the numbers that Windows has for them.
const NAMED: [(&str, u16); 18] = [
    ("Enter", 13),
    ("Backspace", 8),
    ("Tab", 9),
    ("Delete", 46),
    ("Escape", 27),
    ("ArrowLeft", 37),
    ("ArrowUp", 38),
    ("ArrowRight", 39),
    ("ArrowDown", 40),
    ("Home", 36),
    ("End", 35),
    ("PageUp", 33),
    ("PageDown", 34),
    ("Shift", 16),
    ("Control", 17),
    ("Alt", 18),
    ("AltGraph", 225),
    ("CapsLock", 20),
];

/// What goes in with Control: by words and to the ends of a text; with letters: all, copy, cut, paste, and back and forth.
const WITH_CONTROL: [&str; 10] = [
    "ArrowLeft",
    "ArrowUp",
    "ArrowRight",
    "ArrowDown",
    "Home",
    "End",
    "Backspace",
    "Delete",
    "Control",
    "Shift",
];
const LETTERS_WITH_CONTROL: &str = "acvxyz";

/// Numbers of keys with signs, on whatever keyboard, and of those beside it.
const SIGNS: [std::ops::RangeInclusive<u16>; 2] = [96..=111, 186..=226];

/// The number with which a key goes in; `None`: it does not. The browser goes by numbers: ours, as far as there is one.
pub(super) fn number_of(press: &KeyPress) -> Option<u16> {
    let holds = |what: u8| press.modifiers & what != 0;
    if holds(META) {
        return None;
    }
    if let Some((name, number)) = NAMED.iter().find(|(name, _)| *name == press.key) {
        let is_ours = match (holds(ALT), holds(CONTROL), holds(SHIFT)) {
            (true, _, _) => matches!(*name, "Alt" | "AltGraph" | "Control" | "Shift"),
            // To the tools that clear what a browser has kept.
            (_, true, true) if matches!(*name, "Backspace" | "Delete") => false,
            (_, true, _) => WITH_CONTROL.contains(name),
            // To the browser's own list of its processes.
            (_, _, true) => *name != "Escape",
            _ => true,
        };
        return is_ours.then_some(*number);
    }
    let mut letters = press.key.chars();
    let (letter, None) = (letters.next()?.to_ascii_lowercase(), letters.next()) else { return None };
    let is_ours = match (holds(ALT), holds(CONTROL), holds(SHIFT)) {
        (true, _, _) => false,
        (_, true, true) => letter == 'z',
        (_, true, false) => LETTERS_WITH_CONTROL.contains(letter),
        _ => true,
    };
    let number = match letter {
        ' ' => 32,
        'a'..='z' | '0'..='9' => u16::try_from(u32::from(letter.to_ascii_uppercase())).unwrap_or_default(),
        _ if SIGNS.iter().any(|range| range.contains(&press.number)) => press.number,
        _ => 0,
    };
    is_ours.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(key: &str, number: u16, modifiers: u8) -> Option<u16> {
        let key =
            KeyPress { down: true, key: key.to_owned(), code: String::new(), number, text: None, modifiers };
        number_of(&key)
    }

    #[test]
    fn what_people_write_and_correct_goes_in() {
        for (key, given, modifiers, number) in [
            ("a", 65, 0, 65),
            ("A", 65, SHIFT, 65),
            ("7", 55, 0, 55),
            ("@", 50, SHIFT, 0),
            ("-", 189, 0, 189),
            ("密", 229, 0, 0),
            (" ", 32, 0, 32),
            ("Enter", 13, 0, 13),
            ("Tab", 9, SHIFT, 9),
            ("ArrowLeft", 37, CONTROL | SHIFT, 37),
            ("Backspace", 8, CONTROL, 8),
            ("a", 65, CONTROL, 65),
            ("Z", 90, CONTROL | SHIFT, 90),
            ("Alt", 18, ALT, 18),
        ] {
            assert_eq!(press(key, given, modifiers), Some(number), "{key}");
        }
    }

    #[test]
    fn shortcuts_of_the_browsers_own_do_not() {
        for (key, modifiers) in [
            ("t", CONTROL),
            ("n", CONTROL | SHIFT),
            ("j", CONTROL),
            ("u", CONTROL),
            ("c", CONTROL | SHIFT),
            ("Tab", CONTROL),
            ("PageDown", CONTROL),
            ("Delete", CONTROL | SHIFT),
            ("Escape", SHIFT),
            ("Home", ALT),
            ("ArrowLeft", ALT),
            ("f", ALT),
            ("a", META),
            ("F12", 0),
            ("F1", SHIFT),
            ("BrowserHome", 0),
            ("", 0),
        ] {
            assert_eq!(press(key, 0, modifiers), None, "{key} {modifiers}");
        }
    }

    /// The browser goes by the number.
    #[test]
    fn a_key_under_another_ones_number_is_the_key() {
        assert_eq!(press("a", 123, 0), Some(65));
        assert_eq!(press("?", 123, 0), Some(0));
        assert_eq!(press("a", 84, CONTROL), Some(65));
        assert_eq!(press("Enter", 123, 0), Some(13));
    }
}
