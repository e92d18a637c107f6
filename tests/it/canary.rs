//! Secrets planted to be searched for. Why every spelling: a key that is logged in base64 or hexadecimal, or only by its
//! first characters, is a key that leaked.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use rand::Rng;

/// Secrets by name, and where they must not be.
#[derive(Default)]
pub struct Canaries(Vec<(String, Vec<Vec<u8>>)>);

/// 32 random bytes as letters and digits.
pub fn random() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    STANDARD_NO_PAD.encode(bytes).replace(['+', '/'], "x")
}

impl Canaries {
    /// A new secret that begins with `prefix`.
    pub fn plant(&mut self, name: &str, prefix: &str) -> String {
        let tail = random();
        let whole = format!("{prefix}{tail}");
        self.watch(name, &whole);
        self.spell(name, &tail[..8]);
        whole
    }

    /// Looks for `secret`, raw and encoded, from now on.
    pub fn watch(&mut self, name: &str, secret: &str) {
        let bytes = secret.as_bytes();
        self.spell(name, secret);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.spell(name, &hex);
        self.spell(name, &hex.to_uppercase());
        self.spell(name, &bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>());
        let listed: Vec<String> = bytes.iter().map(u8::to_string).collect();
        self.spell(name, &listed.join(", "));
        // In base64 a secret looks different at each of three offsets; what is the same whatever stands around it counts.
        for before in 0..3 {
            let padded = [vec![0; before], bytes.to_vec()].concat();
            let text = STANDARD.encode(padded);
            let (from, to) = (before + 1, text.len() - 4);
            self.spell(name, &text[from..to]);
            self.spell(name, &text[from..to].replace('+', "-").replace('/', "_"));
        }
    }

    /// Looks for exactly this text from now on.
    pub fn spell(&mut self, name: &str, text: &str) {
        let spelled = text.as_bytes().to_vec();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, all)) => all.push(spelled),
            None => self.0.push((name.to_owned(), vec![spelled])),
        }
    }

    /// The names of those that stand in `place`, each with what stands around it.
    pub fn found_in(&self, place: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for (name, spellings) in &self.0 {
            for spelling in spellings {
                if let Some(at) = memchr::memmem::find(place, spelling) {
                    let around = &place[at.saturating_sub(160)..(at + 160).min(place.len())];
                    found.push(format!("{name}: {}", String::from_utf8_lossy(around)));
                }
            }
        }
        found
    }

    /// Fails where anything planted stands in `place`.
    pub fn must_not_be_in(&self, what: &str, place: &[u8]) {
        let found = self.found_in(place);
        assert!(found.is_empty(), "{} secrets in {what}:\n{}", found.len(), found.join("\n---\n"));
    }
}

#[test]
fn a_planted_secret_is_found_in_every_spelling() {
    let mut canaries = Canaries::default();
    let secret = canaries.plant("key", "sk-");
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let encoded = |text: String| STANDARD.encode(text);
    for leak in [
        format!("key={secret}"),
        format!("{}…", &secret[..12]),
        hex,
        encoded(secret.clone()),
        encoded(format!("x{secret}y")),
        encoded(format!("Bearer {secret}\r\n")),
        format!("{:?}", secret.as_bytes()),
    ] {
        assert!(!canaries.found_in(leak.as_bytes()).is_empty(), "missed in {leak}");
    }
    assert!(canaries.found_in(random().as_bytes()).is_empty());
}
