//! Random values that open something, and what is kept of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// 256 random bits, as 43 characters that need no escaping anywhere.
pub fn random() -> Secret {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::rng().fill(&mut *bytes);
    Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// SHA-256, hexadecimal.
pub fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).flatten().collect()
}

/// Whether `shown` is what `kept` is the hash of; the time says nothing.
pub fn fits(shown: &str, kept: &str) -> bool {
    hash(shown).as_bytes().ct_eq(kept.as_bytes()).into()
}

/// A PKCE challenge by S256 (RFC 7636, 4.2).
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// Whether a text can be what [`random`] or [`challenge`] gives.
pub fn is_opaque(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok()
}

/// Whether a verifier is one (RFC 7636, 4.1).
pub fn is_verifier(text: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (43..=128).contains(&text.len()) && text.bytes().all(is_unreserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_standards() {
        // RFC 7636, Appendix B.
        let (verifier, expected) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(is_verifier(verifier) && is_opaque(expected));
        assert_eq!(challenge(verifier), expected);
        assert!(
            !is_verifier(&verifier[1..]) && !is_verifier(&"a".repeat(129)) && !is_verifier(&"+".repeat(43))
        );
        for bad in ["", "x", &expected[1..], &format!("{expected}="), &"*".repeat(43)] {
            assert!(!is_opaque(bad), "{bad}");
        }
    }

    #[test]
    fn bytes_in_hexadecimal() {
        assert_eq!(hex(&[0, 9, 10, 0x5f, 0xff]), "00090a5fff");
        assert_eq!(
            hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "FIPS 180-2, B.1"
        );
    }

    #[test]
    fn only_the_same_fits() {
        let secret = random();
        assert_eq!(secret.expose().len(), 43);
        assert!(fits(secret.expose(), &hash(secret.expose())));
        assert!(!fits(random().expose(), &hash(secret.expose())) && !fits("", ""));
    }
}
