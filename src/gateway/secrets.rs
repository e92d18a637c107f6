//! Random values that open something, and what is kept of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// 256 random bits, as 43 characters that need no escaping anywhere.
pub(super) fn random() -> Secret {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::rng().fill(&mut *bytes);
    Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// SHA-256, hexadecimal.
pub(super) fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `shown` is what `kept` is the hash of; the time says nothing.
pub(super) fn fits(shown: &str, kept: &str) -> bool {
    hash(shown).as_bytes().ct_eq(kept.as_bytes()).into()
}

/// A PKCE challenge by S256 (RFC 7636, 4.2).
pub(super) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// Whether a challenge can be one: the SHA-256 of something.
pub(super) fn is_challenge(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok()
}

/// Whether a verifier is one (RFC 7636, 4.1).
pub(super) fn is_verifier(text: &str) -> bool {
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
        assert!(is_verifier(verifier) && is_challenge(expected));
        assert_eq!(challenge(verifier), expected);
        assert!(
            !is_verifier(&verifier[1..]) && !is_verifier(&"a".repeat(129)) && !is_verifier(&"+".repeat(43))
        );
        for bad in ["", "x", &expected[1..], &format!("{expected}="), &"*".repeat(43)] {
            assert!(!is_challenge(bad), "{bad}");
        }
    }

    #[test]
    fn only_the_same_fits() {
        let secret = random();
        assert_eq!(secret.expose().len(), 43);
        assert!(fits(secret.expose(), &hash(secret.expose())));
        assert!(!fits(random().expose(), &hash(secret.expose())) && !fits("", ""));
    }
}
