//! Who may call: issuers of tokens, and limits by tenant. Issuer and audience are mandatory, so that a token made for
//! another service never opens this one.

use std::collections::HashSet;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::super::field::Field;
use super::super::quantity::Length;
use super::super::raw::{self, Raw};
use super::super::report::{Position, Problem, Problems, check_name, suggestion};
use super::accounts::limits;
use super::seconds;
use crate::identity::settings::{ClaimNames, Issuer, KeySource, Settings};
use crate::ids::TenantId;
use crate::limits::Limits;
use crate::web_url::is_safe;

/// Everything about callers.
pub(super) fn identity(raw: &Raw, problems: &Problems) -> Settings {
    let (auth_default, callers_default) = (raw::Auth::default(), raw::Callers::default());
    let auth = raw.auth.get().unwrap_or(&auth_default);
    let callers = raw.callers.get().unwrap_or(&callers_default);
    let mut seen = HashSet::new();
    let jwt: Vec<Issuer> = (auth.jwt.get().into_iter().flatten().filter_map(Field::placed))
        .filter_map(|(jwt, at)| {
            if let Some((name, at)) = jwt.issuer.placed().filter(|(name, _)| !seen.insert(name.as_str())) {
                let help = "one entry may list several audiences";
                problems.add_with(at, format!("the issuer `{name}` stands there twice"), help);
            }
            issuer(jwt, at, problems)
        })
        .collect();
    let keys = auth.keys.or(true);
    let has_issuers =
        auth.jwt.get().is_some_and(|list| !list.is_empty()) || matches!(auth.jwt, Field::Failed(_));
    if let Some((false, at)) = auth.keys.placed().filter(|_| !has_issuers) {
        problems.add_with(at, "nobody could ever call", "name an issuer under `jwt`, or write `keys: true`");
    }
    limits(&callers.default, problems);
    let tenants = callers.tenants.get().map_or(&[][..], |named| &named.0);
    let tenant_limits = tenants.iter().map(|(key, field)| {
        check_name("a tenant's name", &key.text, key.at, problems);
        limits(field, problems);
        (TenantId::from(key.text.as_str()), field.or(Limits::default()))
    });
    Settings {
        jwt,
        keys,
        default_limits: callers.default.or(Limits::default()),
        tenant_limits: tenant_limits.collect(),
    }
}

fn issuer(jwt: &raw::Jwt, at: Position, problems: &Problems) -> Option<Issuer> {
    const WHY: &str = "without it a token made for another service would be accepted";
    for (name, absent) in [("issuer", jwt.issuer.is_absent()), ("audience", jwt.audience.is_absent())] {
        if absent {
            problems.add_with(at, format!("`{name}` is missing"), WHY);
        }
    }
    if let Some((issuer, at)) = jwt.issuer.placed() {
        check_name("the issuer", issuer, at, problems);
    }
    if let Some((audience, at)) = jwt.audience.placed()
        && (audience.0.is_empty() || audience.0.iter().any(String::is_empty))
    {
        problems.add_with(at, "the audience must not be empty", WHY);
    }
    let keys = keys(jwt, at, problems);
    let algorithms = keys.as_ref().and_then(|(keys, at)| algorithms(jwt, keys, *at, problems));
    let leeway = match jwt.leeway.placed() {
        Some((Length(leeway), at)) if *leeway > seconds(60) => {
            problems.add(at, "a leeway of more than 60s would let expired tokens in");
            seconds(60)
        }
        Some((Length(leeway), _)) => *leeway,
        None => Duration::from_secs(30),
    };
    Some(Issuer {
        claims: claims(jwt, problems),
        issuer: jwt.issuer.get()?.clone(),
        audience: jwt.audience.get()?.0.clone(),
        algorithms: algorithms?,
        keys: keys?.0,
        leeway,
    })
}

fn claims(jwt: &raw::Jwt, problems: &Problems) -> ClaimNames {
    let default = raw::Claims::default();
    let claims = jwt.claims.get().unwrap_or(&default);
    let name = |field: &Field<String>| {
        let (name, at) = field.placed()?;
        check_name("a claim's name", name, at, problems);
        Some(name.clone())
    };
    ClaimNames {
        tenant: name(&claims.tenant),
        models: name(&claims.models),
        scope: name(&claims.scope).or_else(|| Some("scope".to_owned())),
    }
}

/// The one key source that must be there, and where it stands.
fn keys(jwt: &raw::Jwt, at: Position, problems: &Problems) -> Option<(KeySource, Position)> {
    const ONE: &str = "give exactly one of `jwks_url`, `jwks_file`, `secret` and `public_key`";
    let sources = [
        ("jwks_url", jwt.jwks_url.is_absent(), jwt.jwks_url.at(at)),
        ("jwks_file", jwt.jwks_file.is_absent(), jwt.jwks_file.at(at)),
        ("secret", jwt.secret.is_absent(), jwt.secret.at(at)),
        ("public_key", jwt.public_key.is_absent(), jwt.public_key.at(at)),
    ];
    let mut given = sources.iter().filter(|(_, absent, _)| !absent);
    let Some((name, _, place)) = given.next() else {
        problems.add_with(at, "nothing says where the keys come from", ONE);
        return None;
    };
    if let Some((second, _, at)) = given.next() {
        problems.add_with(*at, format!("`{second}` beside `{name}`"), ONE);
        return None;
    }
    let source = match *name {
        "jwks_url" => KeySource::JwksUrl(jwks_url(jwt.jwks_url.get()?, *place, problems)?),
        "jwks_file" => KeySource::JwksFile(jwt.jwks_file.get()?.into()),
        "secret" => {
            let secret = jwt.secret.get()?;
            if secret.expose().len() < 32 {
                problems.add_with(
                    *place,
                    "the secret is shorter than 32 bytes and could be guessed",
                    "make one with `openssl rand -base64 32`",
                );
            }
            KeySource::Secret(secret.clone())
        }
        _ => KeySource::PublicKey(jwt.public_key.get()?.clone()),
    };
    Some((source, *place))
}

fn jwks_url(typed: &str, at: Position, problems: &Problems) -> Option<url::Url> {
    let url = url::Url::parse(typed).ok().filter(url::Url::has_host);
    let is_safe = url.as_ref().is_some_and(is_safe);
    if !is_safe {
        problems.add(at, "keys are fetched from an `https:` URL only (or `http:` on this machine)");
    }
    url.filter(|_| is_safe)
}

/// The algorithms: as given, or all that the keys can verify.
fn algorithms(
    jwt: &raw::Jwt,
    keys: &KeySource,
    keys_at: Position,
    problems: &Problems,
) -> Option<Vec<Algorithm>> {
    let (possible, whose) = match keys {
        KeySource::Secret(_) => (family(AlgorithmFamily::Hmac), "a secret"),
        KeySource::PublicKey(pem) => match pem_family(pem.as_bytes()) {
            Some(family_of_key) => (family(family_of_key), "this public key"),
            None => {
                problems.add_with(
                    keys_at,
                    "not a public key in PEM",
                    "it begins with `-----BEGIN PUBLIC KEY-----`; `${file:/path}` reads it from a file",
                );
                return None;
            }
        },
        KeySource::JwksFile(_) | KeySource::JwksUrl(_) => (
            [AlgorithmFamily::Rsa, AlgorithmFamily::Ec, AlgorithmFamily::Ed]
                .into_iter()
                .flat_map(family)
                .collect(),
            "a key set",
        ),
    };
    let Some((given, at)) = jwt.algorithms.placed() else {
        return jwt.algorithms.is_absent().then_some(possible);
    };
    if given.is_empty() {
        problems.add_with(at, "no algorithm is named", "leave it out for all that the keys can verify");
    }
    let named = given.iter().filter_map(Field::placed).filter_map(|(name, at)| {
        let found = ALGORITHMS.iter().find(|(known, _, _)| known == name);
        let Some((_, algorithm, _)) = found else {
            let help = suggestion(name, ALGORITHMS.iter().map(|(known, _, _)| *known));
            problems.push(Problem { at, what: format!("there is no algorithm `{name}`"), help });
            return None;
        };
        if !possible.contains(algorithm) {
            problems.add(at, format!("{whose} cannot verify {name}"));
        }
        Some(*algorithm)
    });
    Some(named.collect())
}

const ALGORITHMS: [(&str, Algorithm, AlgorithmFamily); 12] = [
    ("HS256", Algorithm::HS256, AlgorithmFamily::Hmac),
    ("HS384", Algorithm::HS384, AlgorithmFamily::Hmac),
    ("HS512", Algorithm::HS512, AlgorithmFamily::Hmac),
    ("RS256", Algorithm::RS256, AlgorithmFamily::Rsa),
    ("RS384", Algorithm::RS384, AlgorithmFamily::Rsa),
    ("RS512", Algorithm::RS512, AlgorithmFamily::Rsa),
    ("PS256", Algorithm::PS256, AlgorithmFamily::Rsa),
    ("PS384", Algorithm::PS384, AlgorithmFamily::Rsa),
    ("PS512", Algorithm::PS512, AlgorithmFamily::Rsa),
    ("ES256", Algorithm::ES256, AlgorithmFamily::Ec),
    ("ES384", Algorithm::ES384, AlgorithmFamily::Ec),
    ("EdDSA", Algorithm::EdDSA, AlgorithmFamily::Ed),
];

fn family(of: AlgorithmFamily) -> Vec<Algorithm> {
    ALGORITHMS.iter().filter(|(_, _, family)| *family == of).map(|(_, algorithm, _)| *algorithm).collect()
}

fn pem_family(pem: &[u8]) -> Option<AlgorithmFamily> {
    if DecodingKey::from_rsa_pem(pem).is_ok() {
        Some(AlgorithmFamily::Rsa)
    } else if DecodingKey::from_ec_pem(pem).is_ok() {
        Some(AlgorithmFamily::Ec)
    } else if DecodingKey::from_ed_pem(pem).is_ok() {
        Some(AlgorithmFamily::Ed)
    } else {
        None
    }
}
