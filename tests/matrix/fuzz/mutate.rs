//! Ways to break an input: blindly, as JSON, and as a stream of events.

use serde_json::{Map, Value, json};

use super::dice::Dice;

/// Pieces that parsers stumble over.
const WORDS: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "-0.0",
    "18446744073709551616",
    "99999999999999999999999999",
    "\"\"",
    "{}",
    "[]",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\\",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "data:",
    "data: ",
    "data: [DONE]\n\n",
    "event: error\n",
    "event: ping\n",
    "id: 1\n",
    ": c\n",
    "\u{FEFF}",
    "\u{2028}",
    "é",
    "\u{1F44C}",
    "\0",
    "error",
    "choices",
    "delta",
    "\"error\":{},",
    "\"choices\":[],",
    "finish_reason",
    "\"index\":127,",
    "${HOME}",
    "&a ",
    "*a",
    "<<: *a",
    "- ",
    "? ",
    "|\n",
    "'",
];

/// Breaks bytes without knowing what they are.
pub fn bytes(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = dice.pick(seeds).clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        let reach = 1 << dice.below(9);
        let until = (at + dice.below(reach)).min(input.len());
        match dice.below(9) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = u8::try_from(dice.below(256)).expect("a byte"),
            2 => drop(input.drain(at..until)),
            3 => {
                let copy = input[at..until].to_vec();
                let times = if dice.once_in(20) { 200 } else { 1 };
                drop(input.splice(at..at, copy.repeat(times)));
            }
            4 => {
                let other = dice.pick(seeds);
                let from = dice.below(other.len() + 1);
                let len = dice.below(other.len() - from + 1);
                drop(input.splice(at..at, other[from..from + len].iter().copied()));
            }
            5 => input.truncate(at),
            6 => drop(input.splice(at..until, dice.pick(WORDS).bytes())),
            _ => drop(input.splice(at..at, dice.pick(WORDS).bytes())),
        }
        if input.len() > super::LARGEST {
            break;
        }
    }
    input
}

/// Breaks one JSON text, as bytes or in its structure.
pub fn document(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    if dice.once_in(4) {
        return bytes(dice, seeds);
    }
    let parsed = serde_json::from_slice(dice.pick::<Vec<u8>>(seeds));
    let Ok(mut value) = parsed else { return bytes(dice, seeds) };
    for _ in 0..=dice.below(4) {
        let names = names(seeds, dice);
        value_of(dice, &mut value, &names);
    }
    value.to_string().into_bytes()
}

/// Breaks a stream: its bytes, the order of its events, or the JSON of some.
pub fn stream(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    if dice.once_in(4) {
        return bytes(dice, seeds);
    }
    let text = String::from_utf8_lossy(dice.pick::<Vec<u8>>(seeds)).into_owned();
    let gap = if text.contains("\r\n\r\n") { "\r\n\r\n" } else { "\n\n" };
    let mut events: Vec<String> = text.split_inclusive(gap).map(str::to_owned).collect();
    for _ in 0..=dice.below(5) {
        let at = dice.below(events.len());
        match dice.below(8) {
            0 if events.len() > 1 => drop(events.remove(at)),
            1 => events.insert(at, events[at].clone()),
            2 => {
                let other = dice.below(events.len());
                events.swap(at, other);
            }
            3 => {
                let other = String::from_utf8_lossy(dice.pick::<Vec<u8>>(seeds)).into_owned();
                let others: Vec<&str> = other.split_inclusive("\n\n").collect();
                events.insert(at, (*dice.pick(&others)).to_owned());
            }
            _ => {
                let names = names(seeds, dice);
                events[at] = event(dice, &events[at], &names);
            }
        }
    }
    events.concat().into_bytes()
}

fn event(dice: &mut Dice, event: &str, names: &[String]) -> String {
    let Some((head, data)) = event.split_once("data:") else { return event.to_owned() };
    let (data, tail) = data.split_once('\n').unwrap_or((data, "\n\n"));
    let Ok(mut value) = serde_json::from_str::<Value>(data) else { return event.to_owned() };
    value_of(dice, &mut value, names);
    format!("{head}data: {value}\n{tail}")
}

/// Some of the names of fields that occur in the seeds.
fn names(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<String> {
    let text = String::from_utf8_lossy(dice.pick::<Vec<u8>>(seeds)).into_owned();
    let mut names: Vec<String> = text
        .split('"')
        .filter(|name| name.len() < 30 && !name.contains([':', ',', '{']))
        .map(str::to_owned)
        .collect();
    names.push("error".to_owned());
    names
}

/// Changes one place of a value.
pub fn value_of(dice: &mut Dice, value: &mut Value, names: &[String]) {
    let mut countdown = dice.below(places(value));
    let odd = odd(dice, value, names);
    change(value, &mut countdown, &mut |place| match (dice.below(5), place) {
        (0, Value::Object(fields)) => {
            let name = fields.keys().nth(dice.below(fields.len())).cloned();
            drop(name.and_then(|name| fields.shift_remove(&name)));
        }
        (1, Value::Object(fields)) => drop(fields.insert(dice.pick(names).clone(), odd.clone())),
        (2, Value::Array(list)) if !list.is_empty() => {
            let copy = list[dice.below(list.len())].clone();
            let times = if dice.once_in(30) { 300 } else { 1 };
            list.extend(std::iter::repeat_n(copy, times));
        }
        (3, Value::String(text)) => text.push_str(dice.pick::<&str>(WORDS)),
        (_, place) => *place = odd.clone(),
    });
}

fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(places).sum(),
        Value::Object(fields) => fields.values().map(places).sum(),
        _ => 0,
    }
}

fn change(value: &mut Value, countdown: &mut usize, with: &mut dyn FnMut(&mut Value)) {
    if *countdown == 0 {
        with(value);
        *countdown = usize::MAX;
        return;
    }
    *countdown -= 1;
    match value {
        Value::Array(list) => list.iter_mut().for_each(|inner| change(inner, countdown, with)),
        Value::Object(fields) => fields.values_mut().for_each(|inner| change(inner, countdown, with)),
        _ => {}
    }
}

/// A value that nobody expects there; sometimes one from elsewhere in the same document.
fn odd(dice: &mut Dice, whole: &Value, names: &[String]) -> Value {
    match dice.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(1e300),
        5 => json!(u64::MAX),
        6 => json!(""),
        7 => json!(dice.pick(names)),
        8 => json!("x".repeat(2_usize.pow(u32::try_from(dice.below(12)).expect("small")))),
        9 => json!([]),
        10 => json!({}),
        11 => json!([null, 1, "x", {"index": dice.below(200), "text": "t"}]),
        12 => Value::Object(Map::from_iter([(dice.pick(names).clone(), json!({"a": [1]}))])),
        13 => (0..dice.below(140)).fold(json!(1), |inner, _| json!([inner])),
        _ => {
            let mut countdown = dice.below(places(whole));
            let mut found = Value::Null;
            let mut copy = whole.clone();
            change(&mut copy, &mut countdown, &mut |place| found = place.clone());
            found
        }
    }
}
