//! JSON as it should not be, in the spirit of JSONTestSuite (written anew): what is right is never our failure, what is
//! wrong is always a 400, and what is open to debate is one or the other and never a crash (H6). Nothing is silently
//! replaced: a text either arrives at the platform as it was sent, or is refused.

use serde_json::{Value, json};

use crate::house::{Answer, House, whole};

const RIGHT: [&str; 62] = [
    "[]",
    "[ ]",
    "[[]]",
    "{}",
    "{ }",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "12",
    "1.0",
    "1.5",
    "-1.5",
    "1e1",
    "1E1",
    "1e+1",
    "1e-1",
    "0e1",
    "0E+1",
    "0.1e1",
    "123.456e78",
    "1.7976931348623157e308",
    "0.000000000000000000001",
    "-123123123123123123123123123123",
    "9007199254740993",
    "\"\"",
    "\" \"",
    "\"a\"",
    "\"\\\"\"",
    "\"\\\\\"",
    "\"\\/\"",
    "\"\\b\\f\\n\\r\\t\"",
    "\"\\u0000\"",
    "\"\\u0061\"",
    "\"\\uD834\\uDD1E\"",
    "\"\\uFFFF\"",
    "\"\\u2028\"",
    "\"\u{2028}\u{2029}\"",
    "\"\u{7f}\"",
    "\"\u{80}\"",
    "\"\u{fffd}\"",
    "\"\u{10ffff}\"",
    "\"é€😀\"",
    "\"\\u00e9\"",
    "\"/*c*/\"",
    "\"//\"",
    "[1,2]",
    "[1 , 2]",
    "[null,true,\"a\",1]",
    " [1]",
    "[1] ",
    "\t[1]\n",
    "\r\n{}\r\n",
    "{\"a\":1}",
    "{\"a\":{\"b\":[]}}",
    "{\"\":0}",
    "{\"a\\u0000b\":1}",
    "{\"a\":1,\"b\":2}",
    "[[[[[[[[[[1]]]]]]]]]]",
];

const WRONG: [&str; 156] = [
    "",
    " ",
    "[",
    "]",
    "{",
    "}",
    "[[",
    "{{",
    "[{",
    "{[",
    "[}",
    "{]",
    "[]]",
    "{}}",
    "[][]",
    "{}{}",
    "[] x",
    "{} x",
    "[1}",
    "{\"a\":1]",
    ",",
    ":",
    "[,]",
    "[,1]",
    "[1,]",
    "[1,,2]",
    "[,,]",
    "[1 2]",
    "[1:2]",
    "[\"a\":1]",
    "[\"a\",:1]",
    "{,}",
    "{\"a\"}",
    "{\"a\":}",
    "{:1}",
    "{\"a\":1,}",
    "{\"a\":1,,}",
    "{\"a\",1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\"::1}",
    "{a:1}",
    "{'a':1}",
    "{1:1}",
    "{null:1}",
    "{true:1}",
    "{[]:1}",
    "{\"a\":1;}",
    "{\"a\"=1}",
    "{\"a\":1,b}",
    "{\"a\":\"b\",,\"c\":1}",
    "{\"a\" b:1}",
    "{\"a\":1}#",
    "{\"a\":1}//",
    "{\"a\":1}/*c*/",
    "/*c*/{}",
    "//c\n{}",
    "{/**/}",
    "[1/**/]",
    "nul",
    "nulll",
    "NULL",
    "Null",
    "tru",
    "True",
    "TRUE",
    "fals",
    "False",
    "truefalse",
    "undefined",
    "nan",
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "inf",
    "+1",
    "++1",
    "--1",
    "-",
    "+",
    ".5",
    "-.5",
    "1.",
    "-1.",
    "1.e1",
    "1.e",
    ".",
    "e1",
    "1e",
    "1e+",
    "1e-",
    "1E",
    "1ee1",
    "1e1.5",
    "1.2.3",
    "01",
    "-01",
    "00",
    "-00",
    "0x1",
    "0xff",
    "1x",
    "1_000",
    "1,000",
    "1 000",
    "0b1",
    "0o7",
    "1f",
    "１",
    "-\u{661}",
    "2.e3",
    "0e",
    "0e+",
    "- 1",
    "1 -",
    "\"",
    "\"a",
    "a\"",
    "'a'",
    "`a`",
    "\"\\\"",
    "\"\\\\\\\"",
    "\"\\x41\"",
    "\"\\a\"",
    "\"\\'\"",
    "\"\\0\"",
    "\"\\u\"",
    "\"\\u1\"",
    "\"\\u12\"",
    "\"\\u123\"",
    "\"\\u12G4\"",
    "\"\\U0041\"",
    "\"\\u{41}\"",
    "\"\\ u0041\"",
    "\"\n\"",
    "\"\r\"",
    "\"\t\"",
    "\"\u{0}\"",
    "\"\u{1}\"",
    "\"\u{1f}\"",
    "\"\\\n\"",
    "\"\\\u{0}\"",
    "\"a\" \"b\"",
    "\"a\"b",
    "\u{a0}{}",
    "{\u{a0}}",
    "[\u{2060}]",
    "[\u{b}1]",
    "[\u{c}1]",
    "\u{0}{}",
    "{}\u{0}",
    "<x/>",
    "a=b",
    "--\nx: 1",
    "%7B%7D",
    "[1]]",
];

/// Bytes that are no UTF-8, or another encoding, or a mark of one.
fn open_to_debate() -> Vec<Vec<u8>> {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let broad = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    let text = "{\"model\":\"openai/gpt-4o\",\"messages\":[]}";
    let mut all: Vec<Vec<u8>> = vec![
        [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat(),
        wide(text),
        broad(text),
        [b"\xff\xfe".as_slice(), &wide(text)].concat(),
        [b"\xfe\xff".as_slice(), &broad(text)].concat(),
        b"\xef\xbb\xbf".to_vec(),
        b"\xff\xfe".to_vec(),
        b"\"\\uD800\"".to_vec(),
        b"1e400".to_vec(),
        b"-1e400".to_vec(),
        b"1e-400".to_vec(),
        b"100000000000000000000000000000000000000".to_vec(),
        b"{\"a\":1,\"a\":2}".to_vec(),
        b"{\"a\":1,\"\\u0061\":2}".to_vec(),
    ];
    for bytes in BROKEN {
        all.push([b"\"", bytes, b"\"".as_slice()].concat());
    }
    all
}

/// No UTF-8, each in its own way.
const BROKEN: [&[u8]; 12] = [
    b"\x80",
    b"\xbf",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xc3",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80",
    b"\xfe",
    b"\xff",
];

async fn send(house: &House, body: Vec<u8>) -> Answer {
    whole(house.client.post(house.url("/v1/chat/completions")).bearer_auth(&house.token).body(body)).await
}

/// A chat request in which `raw` stands as the value of `field`.
fn with(field: &str, raw: &[u8]) -> Vec<u8> {
    let start =
        format!(r#"{{"model":"openai/gpt-4o","messages":[{{"role":"user","content":"hi"}}],"{field}":"#);
    [start.as_bytes(), raw, b"}"].concat()
}

/// A chat request in which `raw` is said by the user.
fn said(raw: &[u8]) -> Vec<u8> {
    [br#"{"model":"openai/gpt-4o","messages":[{"role":"user","content":"#.as_slice(), raw, b"}]}"].concat()
}

async fn house() -> House {
    House::start(
        "accounts: [{id: a, platform: openai, api_key: sk-a}, {id: c, platform: claude, api_key: sk-ant-c}]",
    )
    .await
}

#[tokio::test]
async fn what_is_no_json_is_a_400_wherever_it_stands() {
    let house = house().await;
    for wrong in WRONG {
        for body in [
            wrong.as_bytes().to_vec(),
            with("metadata", wrong.as_bytes()),
            with("x", wrong.as_bytes()),
            said(wrong.as_bytes()),
        ] {
            let answer = send(&house, body.clone()).await;
            assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(&body), answer.text());
            answer.error(400);
        }
    }
    for text in RIGHT {
        let sent = said(text.as_bytes());
        for cut in 1..sent.len() {
            if cut % 7 == 0 {
                assert_eq!(send(&house, sent[..cut].to_vec()).await.status, 400, "cut at {cut}");
            }
        }
    }
    assert_eq!(house.requests().await.len(), 0, "the platform was asked");
}

#[tokio::test]
async fn what_is_json_is_never_our_failure() {
    let house = house().await;
    for right in RIGHT {
        for body in [
            right.as_bytes().to_vec(),
            with("metadata", right.as_bytes()),
            with("x", right.as_bytes()),
            said(right.as_bytes()),
        ] {
            let answer = send(&house, body.clone()).await;
            assert!(
                matches!(answer.status, 200 | 400),
                "{}: {}",
                String::from_utf8_lossy(&body),
                answer.text()
            );
            assert!(
                !answer.text().contains("not valid JSON"),
                "{}: {}",
                String::from_utf8_lossy(&body),
                answer.text()
            );
        }
    }
    for body in open_to_debate() {
        for body in
            [body.clone(), with("metadata", &body), with("seed", &body), with("x", &body), said(&body)]
        {
            let answer = send(&house, body.clone()).await;
            assert!(
                matches!(answer.status, 200 | 400),
                "{}: {}",
                String::from_utf8_lossy(&body),
                answer.text()
            );
        }
    }
    assert_eq!(house.metric("weir_panics_total").await, 0.0);
}

#[tokio::test]
async fn texts_arrive_as_they_were_sent_or_not_at_all() {
    let house = house().await;
    let strange = [
        "\u{0}",
        "\u{7f}",
        "\u{2028}",
        "\u{fffd}",
        "\u{feff}",
        "\u{10ffff}",
        "e\u{301}",
        "\u{202e}x",
        "😀",
        "\r\n",
        "\\",
        "\"",
        "</script>",
    ];
    for model in ["openai/gpt-4o", "claude/claude-sonnet-4-5"] {
        for text in strange {
            house.reset().await;
            let body =
                json!({"model": model, "messages": [{"role": "user", "content": format!("a{text}b")}]});
            assert_eq!(house.post("/v1/chat/completions", &body).await.status, 200, "{text:?}");
            let sent = house.requests().await[0]["body"]["messages"].clone();
            assert!(holds(&sent, &format!("a{text}b")), "{text:?} became {sent}");
        }
        // Half a surrogate pair is no text: it is not quietly made into something else on the way.
        for half in ["\\ud800", "\\udc00", "\\ud800x", "\\ud800\\ud800", "\\udc00\\ud800", "\\uD834\\u0041"] {
            house.reset().await;
            let body =
                format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"a{half}b"}}]}}"#);
            let answer = send(&house, body.into_bytes()).await;
            assert!(answer.status == 400, "{half}: {}", answer.text());
        }
        for bytes in BROKEN {
            house.reset().await;
            let body = [
                format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"a"#).as_bytes(),
                bytes,
                br#"b"}]}"#,
            ]
            .concat();
            assert_eq!(send(&house, body).await.status, 400, "{bytes:?}");
            assert_eq!(house.requests().await.len(), 0);
        }
    }
}

fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own == text,
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(fields) => fields.values().any(|field| holds(field, text)),
        _ => false,
    }
}
