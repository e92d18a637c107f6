//! A strict look over a JSON object without building it. Why: most requests and most stream events need one field read or
//! replaced; building a tree for that would cost more than everything else on the path. The look is nevertheless a full
//! validation (RFC 8259, UTF-8, bounded depth, no key twice at the top), so that nothing malformed is passed on.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

/// Deepest nesting of arrays and objects that is taken.
pub const MAX_DEPTH: usize = 128;

/// Most top-level fields that are taken: each new key is compared with all before it, so without a bound a body of one
/// megabyte of short keys would cost minutes.
pub const MAX_FIELDS: usize = 1024;

/// Why bytes are not an acceptable JSON object.
#[derive(Debug, PartialEq, Eq, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing at all.
    #[error("the body is empty")]
    Empty,
    /// Not UTF-8; the offset in bytes.
    #[error("the body is not valid UTF-8 (at byte {0})")]
    Utf8(usize),
    /// Not JSON; the offset in bytes.
    #[error("the body is not valid JSON (at byte {0})")]
    Syntax(usize),
    /// JSON, but not an object.
    #[error("the body must be a JSON object")]
    NotObject,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the body is nested deeper than 128 levels")]
    Depth,
    /// A top-level key that stands twice: two readers could take different ones.
    #[error("the key {0:?} stands twice")]
    Duplicate(String),
    /// More top-level fields than are taken.
    #[error("the object has too many fields")]
    Fields,
}

/// The top-level fields of a JSON object, as ranges into the bytes that were scanned.
#[derive(Debug, Clone, Default)]
pub struct Object {
    fields: SmallVec<[Field; 12]>,
}

/// One top-level field.
#[derive(Debug, Clone)]
pub struct Field {
    /// Between the quotes of the key, as written.
    key: Range<usize>,
    /// Whether the key is written with an escape, and so means something else than it says.
    is_escaped: bool,
    /// The value, without space around it.
    value: Range<usize>,
}

impl Object {
    /// Validates `bytes` as one JSON object and notes where its fields are.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn scan(bytes: &[u8]) -> Result<Self, Error> {
        Self::scan_at_most(bytes, MAX_FIELDS)
    }

    /// Like [`Object::scan`], with at most `max_fields` top-level fields: for input that anybody may send often.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn scan_at_most(bytes: &[u8], max_fields: usize) -> Result<Self, Error> {
        if let Err(bad) = std::str::from_utf8(bytes) {
            return Err(Error::Utf8(bad.valid_up_to()));
        }
        Self::scan_utf8(bytes, max_fields)
    }

    fn scan_utf8(bytes: &[u8], max_fields: usize) -> Result<Self, Error> {
        let mut scanner = Scanner { bytes, at: 0, max_fields };
        scanner.space();
        match scanner.peek() {
            None => return Err(Error::Empty),
            Some(b'{') => scanner.at += 1,
            Some(_) => {
                scanner.value()?;
                return Err(Error::NotObject);
            }
        }
        let mut object = Self::default();
        scanner.space();
        if scanner.peek() == Some(b'}') {
            scanner.at += 1;
        } else {
            scanner.fields(&mut object)?;
        }
        scanner.space();
        match scanner.peek() {
            None => Ok(object),
            Some(_) => Err(Error::Syntax(scanner.at)),
        }
    }

    /// The raw value of the field `name`.
    pub fn get<'b>(&self, bytes: &'b [u8], name: &str) -> Option<&'b [u8]> {
        self.range(bytes, name).and_then(|range| bytes.get(range))
    }

    /// Where the value of the field `name` stands.
    pub fn range(&self, bytes: &[u8], name: &str) -> Option<Range<usize>> {
        self.fields.iter().find(|field| field.is(bytes, name.as_bytes())).map(|field| field.value.clone())
    }

    /// Every field: its key as meant, its key as written and its raw value, in order.
    pub fn iter<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = (Cow<'b, str>, &'b [u8], &'b [u8])> {
        self.fields.iter().map(move |field| {
            let written = bytes.get(field.key.clone()).unwrap_or_default();
            (field.key(bytes), written, bytes.get(field.value.clone()).unwrap_or_default())
        })
    }
}

impl Field {
    fn is(&self, bytes: &[u8], name: &[u8]) -> bool {
        let written = bytes.get(self.key.clone()).unwrap_or_default();
        if self.is_escaped { decode_key(written).as_bytes() == name } else { written == name }
    }

    /// The key as meant.
    fn key<'b>(&self, bytes: &'b [u8]) -> Cow<'b, str> {
        let written = bytes.get(self.key.clone()).unwrap_or_default();
        if self.is_escaped { decode_key(written) } else { String::from_utf8_lossy(written) }
    }
}

fn decode_key(written: &[u8]) -> Cow<'_, str> {
    let quoted = [b"\"", written, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or_else(|_| String::from_utf8_lossy(written), Cow::Owned)
}

/// Whether `raw` is the JSON `null`.
pub fn is_null(raw: &[u8]) -> bool {
    raw == b"null"
}

/// A raw JSON string as text, or `None` where it is of another type (or holds half a surrogate pair).
pub fn as_str(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice(raw).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// A raw JSON number as a whole number, or `None` where it is something else.
pub fn as_u64(raw: &[u8]) -> Option<u64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// A raw JSON boolean.
pub fn as_bool(raw: &[u8]) -> Option<bool> {
    match raw {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// How many bytes at the beginning of `text` are neither a quote nor a backslash nor a control character. In blocks, and
/// each block without a branch: the compiler then looks at all its bytes at once.
fn plain_len(text: &[u8]) -> usize {
    let is_special = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    let (blocks, _) = text.as_chunks::<16>();
    let is_plain = |block: &&[u8; 16]| !block.iter().fold(false, |found, byte| found | is_special(byte));
    let plain = blocks.iter().take_while(is_plain).count() * 16;
    let rest = text.get(plain..).unwrap_or_default();
    plain + rest.iter().position(is_special).unwrap_or(rest.len())
}

struct Scanner<'b> {
    bytes: &'b [u8],
    at: usize,
    max_fields: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong<T>(&self) -> Result<T, Error> {
        Err(Error::Syntax(self.at))
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.peek() != Some(byte) {
            return self.wrong();
        }
        self.at += 1;
        Ok(())
    }

    fn fields(&mut self, object: &mut Object) -> Result<(), Error> {
        loop {
            self.space();
            let key = self.at + 1;
            let is_escaped = self.string()?;
            let key = key..self.at - 1;
            self.space();
            self.expect(b':')?;
            self.space();
            let value = self.at;
            self.value()?;
            if object.fields.len() >= self.max_fields {
                return Err(Error::Fields);
            }
            let field = Field { key, is_escaped, value: value..self.at };
            let decoded = field.is_escaped.then(|| field.key(self.bytes));
            let name = match &decoded {
                Some(name) => name.as_bytes(),
                None => self.bytes.get(field.key.clone()).unwrap_or_default(),
            };
            if object.fields.iter().any(|before| before.is(self.bytes, name)) {
                return Err(Error::Duplicate(field.key(self.bytes).into_owned()));
            }
            object.fields.push(field);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong(),
            }
        }
    }

    /// One value of any kind. Nesting is a bit mask (1: object, 0: array), so depth costs no stack.
    fn value(&mut self) -> Result<(), Error> {
        let mut kinds: u128 = 0;
        let mut depth = 1;
        let bottom = depth;
        loop {
            self.space();
            if depth >= MAX_DEPTH && matches!(self.peek(), Some(b'{' | b'[')) {
                return Err(Error::Depth);
            }
            let opened = match self.peek() {
                Some(b'"') => self.string().map(|_| false)?,
                Some(b'{') => self.open(b'}')?,
                Some(b'[') => self.open(b']')?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                Some(b'-' | b'0'..=b'9') => self.number().map(|()| false)?,
                _ => return self.wrong(),
            };
            if opened {
                depth += 1;
                let is_object = self.bytes.get(self.at - 1) == Some(&b'{');
                kinds = kinds << 1 | u128::from(is_object);
                if is_object {
                    self.key()?;
                }
                continue;
            }
            if self.close_or_next(&mut kinds, &mut depth, bottom)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here and stands before the next value, or says that the outermost has ended.
    fn close_or_next(&mut self, kinds: &mut u128, depth: &mut usize, bottom: usize) -> Result<bool, Error> {
        while *depth > bottom {
            self.space();
            let is_object = *kinds & 1 == 1;
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if is_object {
                        self.space();
                        self.key()?;
                    }
                    return Ok(false);
                }
                Some(b'}') if is_object => self.at += 1,
                Some(b']') if !is_object => self.at += 1,
                _ => return self.wrong(),
            }
            *kinds >>= 1;
            *depth -= 1;
        }
        Ok(true)
    }

    /// Steps over `{` or `[`; false where it closes at once.
    fn open(&mut self, close: u8) -> Result<bool, Error> {
        let opener = self.at;
        self.at += 1;
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        // The caller reads the kind from the byte before `at`: step back over the space.
        self.at = opener + 1;
        Ok(true)
    }

    fn key(&mut self) -> Result<(), Error> {
        self.space();
        self.string()?;
        self.space();
        self.expect(b':')
    }

    fn word(&mut self, word: &[u8]) -> Result<bool, Error> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return self.wrong();
        }
        self.at += word.len();
        Ok(false)
    }

    fn digits(&mut self) -> Result<(), Error> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from { self.wrong() } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), Error> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Steps over a string. True where it is written with an escape.
    fn string(&mut self) -> Result<bool, Error> {
        self.expect(b'"')?;
        let mut is_escaped = false;
        loop {
            self.at += plain_len(self.bytes.get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(is_escaped);
                }
                Some(b'\\') => {
                    self.at += 1;
                    is_escaped = true;
                    self.escape()?;
                }
                _ => return self.wrong(),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Error> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let hex = self.bytes.get(self.at + 1..self.at + 5).unwrap_or_default();
                if hex.len() != 4 || !hex.iter().all(u8::is_ascii_hexdigit) {
                    return self.wrong();
                }
                self.at += 5;
            }
            _ => return self.wrong(),
        }
        Ok(())
    }
}

/// Writes a JSON object anew, field by field: how a request or an event is changed without being parsed.
#[derive(Debug)]
pub struct Rewriter {
    out: Vec<u8>,
}

impl Rewriter {
    /// Begins an object of about `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity + 64);
        out.push(b'{');
        Self { out }
    }

    fn comma(&mut self) {
        if self.out.last() != Some(&b'{') || self.out.len() > 1 {
            self.out.push(b',');
        }
    }

    /// Copies a field: key as written (between its quotes), value raw.
    pub fn copy(&mut self, written_key: &[u8], raw: &[u8]) {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(written_key);
        self.out.extend_from_slice(b"\":");
        self.out.extend_from_slice(raw);
    }

    /// Writes a field whose value is any serializable thing.
    pub fn field<T: serde::Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        self.comma();
        // Writing to memory cannot fail.
        drop(serde_json::to_writer(&mut self.out, key));
        self.out.push(b':');
        drop(serde_json::to_writer(&mut self.out, value));
    }

    /// Ends the object.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &str) -> Result<Object, Error> {
        Object::scan(text.as_bytes())
    }

    #[test]
    fn finds_fields_and_refuses_what_is_not_json() {
        let text = r#" { "model" : "a" , "m\u006fre":[1,{"x":[]}], "s":-0.5e+3,"z":{} } "#;
        let object = scan(text).expect("json");
        assert_eq!(object.get(text.as_bytes(), "model"), Some(&b"\"a\""[..]));
        assert_eq!(object.get(text.as_bytes(), "more"), Some(&br#"[1,{"x":[]}]"#[..]));
        assert_eq!(object.get(text.as_bytes(), "s"), Some(&b"-0.5e+3"[..]));
        for bad in [
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1}x",
            "{\"a\":[1,]}",
            "{\"a\":[1}",
            "{\"a\":\"\t\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":+1}",
            "{\"a\":1.}",
            "{\"a\":tru}",
            "{\"a\":{\"b\"}}",
            "{\"a\":{,}}",
            "{\"a\":[}",
            "\u{FEFF}{}",
            "{\"a\":NaN}",
            "{\"a\":{\"b\":1,}}",
        ] {
            assert!(matches!(scan(bad), Err(Error::Syntax(_))), "{bad}: {:?}", scan(bad));
        }
        assert!(matches!(scan(" "), Err(Error::Empty)));
        assert!(matches!(scan("[]"), Err(Error::NotObject)));
        assert!(matches!(Object::scan(b"{\"a\":\"\xFF\"}"), Err(Error::Utf8(6))));
        assert!(matches!(scan(r#"{"a":1,"\u0061":2}"#), Err(Error::Duplicate(_))));
    }

    #[test]
    fn depth_is_bounded_without_using_the_stack() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(scan(&nested(127)).is_ok());
        assert_eq!(scan(&nested(128)).err(), Some(Error::Depth));
        assert_eq!(scan(&nested(1_000_000)).err(), Some(Error::Depth));
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let with = |count: usize| {
            let fields: Vec<String> = (0..count).map(|at| format!("\"{at}\":0")).collect();
            format!("{{{}}}", fields.join(","))
        };
        assert!(scan(&with(MAX_FIELDS)).is_ok());
        assert_eq!(scan(&with(MAX_FIELDS + 1)).err(), Some(Error::Fields));
        assert_eq!(Object::scan_at_most(with(3).as_bytes(), 2).err(), Some(Error::Fields));
    }

    #[test]
    fn rewriting_every_field_gives_the_object_back() {
        let text = r#"{"a":1,"b":{"c":"d"},"e":null}"#;
        let object = scan(text).expect("json");
        let mut again = Rewriter::new(text.len());
        for (_, key, raw) in object.iter(text.as_bytes()) {
            again.copy(key, raw);
        }
        assert_eq!(String::from_utf8(again.finish()).expect("utf-8"), text);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            ".{0,12}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::vec((".{0,6}", inner), 0..6)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn takes_what_serde_json_writes(value in any_json()) {
            let text = serde_json::json!({"value": value}).to_string();
            let object = scan(&text).expect("valid");
            let raw = object.get(text.as_bytes(), "value").expect("there");
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(raw).expect("valid"), value);
        }

        #[test]
        fn agrees_with_serde_json_on_mutated_bytes(value in any_json(), at in 0usize..200, with in any::<u8>()) {
            let mut bytes = serde_json::json!({"value": value}).to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = with;
            let ours = Object::scan(&bytes);
            let theirs = serde_json::from_slice::<std::collections::HashMap<String, serde::de::IgnoredAny>>(&bytes);
            if !matches!(ours, Err(Error::Duplicate(_) | Error::Utf8(_))) {
                prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
